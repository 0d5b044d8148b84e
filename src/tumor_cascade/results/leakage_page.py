"""The page on leaks: what the split keeps apart, and proof that the checks would say if it did not."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tumor_cascade.data.canary import CHANCE, Canary
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.figures import BLUE, GREY, ORANGE, render_png
from tumor_cascade.evaluation.no_learning import score_protocols
from tumor_cascade.params import SplitDataParams, read_section
from tumor_cascade.results.pages import describe_making, render_markdown, write_page
from tumor_cascade.results.planted_leaks import PLANTED, LeakSearch, search_leaks

NAME = "leakage"
TEMPLATE = "leakage_page.md.j2"
COMMAND = "tumor-cascade results leakage"
MODULES = ("tumor_cascade.results.planted_leaks", "tumor_cascade.evaluation.no_learning")
SERIES = {
    "patient_level": ("by patient", BLUE),
    PLANTED: ("by patient, one patient on both sides (planted)", ORANGE),
    "slice_level": ("by slice (leaky)", GREY),
}


def publish_leakage(slices: Path, manifest: Path, params_path: Path, out_dir: Path) -> Path:
    """Search the data for leaks, plant some, and write the page; return its path.

    Args:
        slices: Folder of packed volumes; read only.
        manifest: `manifest.parquet` of `ingest_data`.
        params_path: Params file with a section `split_data`, whose protocol is not used.
        out_dir: Folder of result pages.

    Raises:
        DataError: The data have no patient ids, or a volume is damaged.
    """
    params, rows = read_section(params_path, "split_data"), read_manifest(manifest)
    assert isinstance(params, SplitDataParams)
    if not rows["has_patient_ids"].all():
        raise DataError("the data have no patient ids: nobody can tell whose slices leak; ingest data that have them.")
    search = search_leaks(params, slices, rows)
    facts = {
        **describe_making(NAME, COMMAND, MODULES),
        "params": {"split_data": params.model_dump(mode="json", exclude={"protocol"})},
        "num_patients": int(rows["patient_id"].nunique()),
        "num_slices": len(rows),
        **list_findings(search),
        "no_learning": score_protocols(
            slices, rows, seed=params.seed, test_share=params.test_share, num_folds=params.num_folds
        ),
    }
    return write_page(
        out_dir, facts, render_markdown(TEMPLATE, **facts), {"canary": render_png(plot_canaries(search.canaries))}
    )


def list_findings(search: LeakSearch) -> dict[str, Any]:
    """Return what a search found as JSON."""
    return {
        "near_duplicates": {
            protocol: {"num_pairs": len(pairs), "num_between_patients": sum(not pair.is_same_patient for pair in pairs)}
            for protocol, pairs in search.pairs.items()
        },
        "canary": {
            name: [{**asdict(one), "part": one.part, "is_chance": one.is_chance} for one in canaries]
            for name, canaries in search.canaries.items()
        },
        "planted_leaks": [{**asdict(one), "has_gap": one.num_found < one.num_planted} for one in search.trials],
    }


def plot_canaries(canaries: Mapping[str, list[Canary]]) -> Figure:
    """Return the canary's score and interval for each held-out part: close to chance on the left, the range right."""
    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    near, whole = figure.subplots(1, 2, sharex=True, width_ratios=[3, 2])
    offsets = np.linspace(-0.2, 0.2, len(SERIES))
    for offset, (name, (label, color)) in zip(offsets, SERIES.items(), strict=True):
        scores, lows, highs = np.array([(one.accuracy, one.low, one.high) for one in canaries[name]]).T
        for axes in (near, whole):
            places, margins = np.arange(len(scores)) + offset, [scores - lows, highs - scores]
            axes.errorbar(places, scores, margins, fmt="o", markersize=4, color=color, label=label, capsize=3)
    by_patient = [*canaries["patient_level"], *canaries[PLANTED]]
    bounds = (min(one.low for one in by_patient) - 0.005, max(one.high for one in by_patient) + 0.005)
    near.set(ylim=bounds, ylabel="Random labels answered right", title="near chance")
    whole.set(ylim=(0.45, 1.0), title="whole range")
    for axes in (near, whole):
        axes.axhline(CHANCE, color="black", linestyle=":", linewidth=1, label="chance")
        axes.set_xticks(np.arange(len(canaries["patient_level"])), [one.part for one in canaries["patient_level"]])
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="y", alpha=0.3)
    figure.legend(*near.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    return figure
