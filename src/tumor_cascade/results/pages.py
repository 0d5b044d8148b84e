"""What all result pages share: what made them, how they are written, whom they owe their data to."""

import datetime
import os
import platform
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from tumor_cascade.content import PACKAGE, find_lock, hash_code
from tumor_cascade.storage import atomic_dir, hash_file, write_json

FACTS_NAME = "results.json"
PAGE_NAME = "README.md"
CREDITS = {
    "phantom": "Pictures show generated phantoms, no patient.",
    "kaggle": (
        "Pictures show MRI of the TCGA lower-grade glioma collection (The Cancer Imaging Archive), masks and packaging "
        "by Mateusz Buda, *Brain MRI segmentation* (Kaggle, `mateuszbuda/lgg-mri-segmentation`), licence "
        "[CC BY-NC-SA 4.0](https://creativecommons.org/licenses/by-nc-sa/4.0/). Cite: Buda, Saha, Mazurowski, "
        "*Association of genomic subtypes of lower-grade gliomas with shape features automatically extracted by a deep "
        "learning algorithm*, Computers in Biology and Medicine 109 (2019); Mazurowski et al., Journal of "
        "Neuro-Oncology 133 (2017)."
    ),
}


def describe_making(name: str, command: str, modules: Iterable[str], trained_on: str | None = None) -> dict[str, Any]:
    """Return what `results check` and a reader need to know of how a page was made.

    Args:
        name: Of the page and its folder.
        command: That makes it again.
        modules: Stages, or first-party modules by their dotted names, that its figures come from.
        trained_on: Hardware of trainings that ran elsewhere, in the publisher's words.
    """
    return {
        "name": name,
        "command": command,
        **describe_today(trained_on),
        "lock": hash_file(find_lock()),
        "code": {module: hash_code(module) for module in modules},
    }


def describe_preset(preset: str, overrides: Iterable[str]) -> str:
    """Return a preset and the values that are other, `section.key=value` each, as a page names them."""
    others = ", ".join(f"`{override}`" for override in overrides)
    return f"`{preset}` with {others}" if others else f"`{preset}`"


def describe_today(trained_on: str | None = None) -> dict[str, str]:
    """Return `date` and `hardware` of figures that are made now, here, from trainings here or on other hardware."""
    hardware = describe_hardware()
    if trained_on is not None:
        hardware += f" (trained on {trained_on}, by the publisher's word)"
    return {"date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(), "hardware": hardware}


def describe_hardware() -> str:
    """Return processor, cores and GPU in words."""
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else []
    text = f"{os.cpu_count()} cores of {models[0] if models else platform.processor() or platform.machine()}"
    import torch

    return f"{text}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else f"{text}, no GPU"


def write_page(
    out_dir: Path,
    facts: Mapping[str, Any],
    page: str,
    figures: Mapping[str, bytes],
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> Path:
    """Write a page, facts, figures (name without suffix -> PNG) and tables as one folder; return the page's path."""
    folder = out_dir / str(facts["name"])
    with atomic_dir(folder) as temporary:
        for name, table in (tables or {}).items():
            table.to_csv(temporary / f"{name}.csv", index=False)
        (temporary / PAGE_NAME).write_text(page, encoding="utf-8")
        for name, png in figures.items():
            (temporary / f"{name}.png").write_bytes(png)
        write_json(temporary / FACTS_NAME, facts)
    return folder / PAGE_NAME


def render_markdown(template: str, **values: Any) -> str:
    """Return a template of this package, filled in; the filter `score` gives three digits, a dash where undefined."""
    environment = Environment(
        loader=PackageLoader(f"{PACKAGE}.results", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["score"] = format_score
    return environment.get_template(template).render(**values)


def format_score(value: float | None) -> str:
    """Return a score with three digits, a dash where it is undefined."""
    return "-" if value is None else f"{value:.3f}"
