"""All result pages together: the README's table of runs, and which pages are out of date."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tumor_cascade.configuration import PRESETS, build_preset
from tumor_cascade.content import find_lock, hash_code
from tumor_cascade.errors import ParamsError
from tumor_cascade.params import STAGES
from tumor_cascade.results.ladder_page import hash_recipes
from tumor_cascade.results.ladder_rows import read_ladder
from tumor_cascade.results.pages import FACTS_NAME, PAGE_NAME
from tumor_cascade.results.run_page import VOLUME_DICE, format_metric, split_names
from tumor_cascade.storage import atomic_file, hash_file

README_MARKS = ("<!-- results: written by `tumor-cascade results publish` -->", "<!-- end of results -->")


def redraw_table(readme: Path, out_dir: Path) -> None:
    """Draw the table of all result pages between the marks of a Markdown file."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    if not all(mark in text for mark in README_MARKS):
        return
    columns = (VOLUME_DICE, "cascade/slice_dice", "cascade/auroc", "cascade/accuracy")
    lines = [
        "| run | protocol | scored on | volume Dice | tumor-slice Dice | slice AUROC | slice accuracy |",
        "|---|---|---|---|---|---|---|",
    ]
    for path in sorted(out_dir.glob(f"*/{FACTS_NAME}")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        if "metrics" not in facts:  # a page about the data or a protocol, not about one run
            continue
        link = f"[`{facts['name']}`]({(path.parent / PAGE_NAME).as_posix()})"
        split, metrics = split_names(facts["metrics"])
        whom = f"{metrics['cascade/num_patients']} patients, {'test' if split == 'test' else 'out of fold'}"
        if split == "oof" and len(facts["params"]["assemble_cascade"]["folds"]) == 1:
            whom += ", epochs and thresholds chosen on them"
        if facts["is_leaky"]:  # a few slices of a patient are no volume
            metrics[VOLUME_DICE] = None
        cells = [link, f"`{facts['protocol']}`", whom, *(format_metric(metrics, key) for key in columns)]
        lines.append(f"| {' | '.join(cells)} |")
    before, rest = text.split(README_MARKS[0])
    after = rest.split(README_MARKS[1])[1]
    with atomic_file(readme) as temporary:
        temporary.write_text(f"{before}{README_MARKS[0]}\n" + "\n".join(lines) + f"\n{README_MARKS[1]}{after}", "utf-8")


def find_stale_results(out_dir: Path) -> list[str]:
    """Return a line for each result page that today's code, lock file or presets would not make."""
    lock, lines = hash_file(find_lock()), []
    for path in sorted(out_dir.glob(f"*/{FACTS_NAME}")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        reasons = [f"code of {name}" for name, code in facts["code"].items() if code != hash_code(name)]
        reasons += [f"params of {name}" for name in find_other_params(facts)]
        reasons += ["lock file"] if facts["lock"] != lock else []
        if reasons:
            lines.append(f"{path.parent / PAGE_NAME} is stale: other {', '.join(reasons)}")
    return lines


def find_other_params(facts: Mapping[str, Any]) -> list[str]:
    """Return the stages, of the ladder the rows, whose params are other than today's presets make them."""
    if "rows" in facts:
        recipes = facts.get("recipes", {})
        return [f"row {name}" for name, today in hash_recipes(read_ladder()).items() if recipes.get(name) != today]
    preset = facts.get("preset", facts["name"])
    if preset not in PRESETS:  # the leakage page is about data
        return []
    try:
        values = build_preset(preset, facts["overrides"])
    except ParamsError:  # an override names what is no parameter any more
        return list(STAGES)
    return [stage for stage in STAGES if facts["params"].get(stage) != values[stage]]
