"""All result pages together: the README's table of runs, and which pages are out of date."""

import json
from pathlib import Path

from tumor_cascade.configuration import PRESETS, build_preset
from tumor_cascade.content import find_lock, hash_code
from tumor_cascade.params import STAGES
from tumor_cascade.results.pages import FACTS_NAME, PAGE_NAME
from tumor_cascade.results.run_page import format_metric, split_names
from tumor_cascade.storage import atomic_file, hash_file

README_MARKS = ("<!-- results: written by `tumor-cascade results publish` -->", "<!-- end of results -->")


def redraw_table(readme: Path, out_dir: Path) -> None:
    """Draw the table of all result pages between the marks of a Markdown file."""
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    if not all(mark in text for mark in README_MARKS):
        return
    columns = ("cascade/volume_dice", "cascade/slice_dice", "cascade/auroc", "cascade/accuracy")
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
        preset = facts.get("preset", facts["name"])
        if preset in PRESETS and "params" in facts:  # rows of the ladder have params of their own
            today = build_preset(preset, facts.get("overrides", []))
            reasons += [f"params of {stage}" for stage in STAGES if facts["params"].get(stage) != today[stage]]
        reasons += ["lock file"] if facts["lock"] != lock else []
        if reasons:
            lines.append(f"{path.parent / PAGE_NAME} is stale: other {', '.join(reasons)}")
    return lines
