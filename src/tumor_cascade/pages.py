"""Result pages that are not about one run: what made them, and how they are written."""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tumor_cascade.content import find_lock, hash_code
from tumor_cascade.results import FACTS_NAME, PAGE_NAME, describe_hardware
from tumor_cascade.storage import atomic_dir, hash_file, write_json

LEAKY_NOTE = (
    "> **Leaky, for comparison only.** Slices of one patient stand on both sides of an image-level split. These figures "
    "say nothing about new patients, and nothing made under this protocol can be promoted."
)


def describe_making(name: str, command: str, modules: Iterable[str]) -> dict[str, Any]:
    """Return what `results check` and a reader need to know of how a page was made.

    Args:
        name: Of the page and its folder.
        command: That makes it again.
        modules: Stages, or first-party modules by their dotted names, that its figures come from.
    """
    return {
        "name": name,
        "command": command,
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "hardware": describe_hardware(),
        "lock": hash_file(find_lock()),
        "code": {module: hash_code(module) for module in modules},
    }


def write_page(out_dir: Path, facts: Mapping[str, Any], lines: Sequence[str], figures: Mapping[str, bytes]) -> Path:
    """Write a page, its facts and its figures (name without suffix -> PNG) as one folder; return the page's path."""
    folder = out_dir / facts["name"]
    with atomic_dir(folder) as temporary:
        (temporary / PAGE_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")
        for name, png in figures.items():
            (temporary / f"{name}.png").write_bytes(png)
        write_json(temporary / FACTS_NAME, facts)
    return folder / PAGE_NAME


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def format_score(value: float | None) -> str:
    """Return a score with three digits, a dash where it is undefined."""
    return "-" if value is None or value != value else f"{value:.3f}"
