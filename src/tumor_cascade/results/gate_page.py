"""The page on the gate: every way to say which slices show tumor, out-of-fold, on one run's masks."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from tumor_cascade.configuration import list_overrides
from tumor_cascade.data.cohort import read_rows
from tumor_cascade.data.volumes import read_volume
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.figures import render_png
from tumor_cascade.evaluation.gate_costs import Costs, time_networks
from tumor_cascade.evaluation.gate_figure import plot_gates
from tumor_cascade.evaluation.gate_variants import compare_gates, trace_gates
from tumor_cascade.evaluation.statistics import Bootstrap
from tumor_cascade.params import STAGES, parse_params, read_yaml
from tumor_cascade.product import load_cascade
from tumor_cascade.results.pages import CREDITS, describe_making, describe_preset, render_markdown, write_page
from tumor_cascade.results.run_page import read_contents, require_params
from tumor_cascade.settings import choose_device

NAME = "gate"
TEMPLATE = "gate_page.md.j2"
COMMAND = "tumor-cascade results gate"
MODULES = ("train_classifier", "train_segmenter", "assemble_cascade", "tumor_cascade.evaluation.gate_variants")
NUM_TIMINGS = 3


def publish_gate(preset: str, artifacts: Path, params_path: Path, out_dir: Path, trained_on: str | None = None) -> Path:
    """Compare all gates on the out-of-fold scores of a run and write the page; return its path.

    Args:
        preset: Of the run; the page names every value that is other.
        artifacts: Outputs of the run's stages.
        params_path: Its params.
        out_dir: Folder of result pages.
        trained_on: Hardware of trainings that ran elsewhere, in the publisher's words.

    Raises:
        DataError: A stage has not run, or slices of one patient are on both sides of the split.
    """
    params = parse_params(read_yaml(params_path), params_path.name)
    if params.split_data.protocol != "patient_level":
        raise DataError(
            f"split_data.protocol is {params.split_data.protocol}: its networks have learned from other slices of the "
            "patients that would judge the gate; take a run under patient_level."
        )
    folds = params.assemble_cascade.folds
    contents = {stage: read_contents(artifacts, stage, folds) for stage in MODULES if stage in STAGES}
    require_params(params, contents)
    content = contents["assemble_cascade"][0]
    slices = pd.read_csv(artifacts / "assemble_cascade" / "report" / "slices.csv")
    statistics = params.evaluate_cascade
    bootstrap = Bootstrap(
        slices["patient_id"].nunique(),
        num_resamples=statistics.num_bootstrap,
        confidence=statistics.confidence,
        seed=statistics.seed,
    )
    smoothing = params.assemble_cascade.gate_smoothing_slices
    costs = time_gates(artifacts)
    variants = compare_gates(
        slices,
        costs,
        bootstrap,
        target_sensitivity=params.assemble_cascade.target_sensitivity,
        smoothing_slices=smoothing,
    )
    facts = {
        **describe_making(NAME, f"{COMMAND} {preset}", MODULES, trained_on),
        "preset": preset,
        "overrides": list_overrides(preset, params.model_dump()),
        "source": params.ingest_data.source,
        "params": params.model_dump(mode="json"),
        "content_id": content["content_id"],
        "folds": sorted(map(int, slices["fold"].unique())),
        "num_patients": int(slices["patient_id"].nunique()),
        "num_slices": len(slices),
        "tumor_share": float(slices["has_tumor"].mean()),
        "classifier_ms": costs.classifier_ms,
        "segmenter_ms": costs.segmenter_ms,
        "variants": list_variants(variants),
    }
    figure = plot_gates(trace_gates(slices, smoothing), variants)
    return write_page(out_dir, facts, render_gate(facts), {"gates": render_png(figure)})


def render_gate(facts: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    rows = facts["variants"]
    return render_markdown(
        TEMPLATE,
        **facts,
        recipe=describe_preset(facts["preset"], facts["overrides"]),
        winner=find_winner(rows),
        shipped=next(row for row in rows if row["variant"] == "cascade"),
        credit=CREDITS[facts["source"]],
    )


def time_gates(artifacts: Path) -> Costs:
    """Return the time per slice of a run's networks on one of its volumes; the fold's networks, not all folds'."""
    ingested = artifacts / "ingest_data"
    rows = read_rows(ingested / "manifest.parquet", artifacts / "split_data" / "splits")
    first = rows[rows["patient_id"] == rows["patient_id"].min()]
    cascade = load_cascade(artifacts / "assemble_cascade" / "cascade").to(torch.device(choose_device()))
    costs = time_networks(cascade, read_volume(ingested / "slices", first).images, NUM_TIMINGS)
    return Costs(costs.classifier_ms / len(cascade.classifiers), costs.segmenter_ms / len(cascade.segmenters))


def list_variants(variants: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the table's rows as JSON, None where undefined."""
    rows = variants.reset_index().astype(object)
    return [
        {str(key): value for key, value in row.items()} for row in rows.where(rows.notna(), None).to_dict("records")
    ]


def find_winner(variants: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the variant with the best volume Dice that can be built."""
    buildable = [row for row in variants if row["variant"] != "oracle"]
    return buildable[int(np.argmax([row["volume_dice"] for row in buildable]))]
