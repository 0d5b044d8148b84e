"""Pages drawn again from their results.json: for runs that are elsewhere, when a template or a preset has moved on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tumor_cascade.configuration import list_overrides
from tumor_cascade.results.gate_page import render_gate
from tumor_cascade.results.pages import FACTS_NAME, PAGE_NAME
from tumor_cascade.results.run_page import render_page
from tumor_cascade.results.study_page import render_study
from tumor_cascade.storage import atomic_file, write_json

# A key that only the facts of this kind of page have -> what draws it.
RENDERERS: dict[str, Callable[[dict[str, Any]], str]] = {
    "metrics": render_page,
    "variants": render_gate,
    "matrices": render_study,
}


def redraw_pages(out_dir: Path) -> list[Path]:
    """Draw the pages of runs, gate and study again, naming what is other than today's presets; return their paths.

    Figures, tables and everything that was measured stay. The leakage page and the ladder draw themselves from data.
    """
    drawn = []
    for path in sorted(out_dir.glob(f"*/{FACTS_NAME}")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        render = next((render for key, render in RENDERERS.items() if key in facts), None)
        if render is None:
            continue
        facts["overrides"] = list_overrides(facts["preset"], facts["params"])
        write_json(path, facts)
        page = path.parent / PAGE_NAME
        with atomic_file(page) as temporary:
            temporary.write_text(render(facts), encoding="utf-8")
        drawn.append(page)
    return drawn
