"""The page on the study's protocol: its metrics on our runs, beside what it prints, and what each number means."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tumor_cascade.configuration import list_overrides
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.data.split import DEVELOPMENT, TEST, read_split_facts, read_splits
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.figures import BLUE, ORANGE, render_png, start_figure
from tumor_cascade.evaluation.no_learning import score_protocols
from tumor_cascade.evaluation.study_metrics import (
    NUM_TUMOR,
    NUM_TUMOR_FREE,
    PRINTED_DICE,
    PRINTED_IOU,
    PRINTED_PERCENT,
    bound_f1,
    dice_of_iou,
    find_matrices,
    summarize_study,
)
from tumor_cascade.params import parse_params, read_yaml
from tumor_cascade.results.pages import describe_making, describe_preset, format_score, render_markdown, write_page
from tumor_cascade.results.run_page import read_all_contents, read_contents, require_params

OF_STUDY = ("study", "study-cpu")  # presets with the study's own recipe; they share a page
TEMPLATE = "study_page.md.j2"
MODULES = ("tumor_cascade.evaluation.study_metrics", "tumor_cascade.evaluation.no_learning")
SERIES = {"slice_level": ("by slice (leaky)", ORANGE), "patient_level": ("by patient", BLUE)}
BARS = {
    "S3\npooled Dice,\ntumor slices": ("S3", "dice"),
    "S4\nmean Dice,\ntumor slices": ("S4", "dice"),
    "S5\nmean Dice,\nall slices": ("S5", "dice"),
    "S5o\nthe same,\nperfect gate": ("S5o", "dice"),
    "S7\npixel\naccuracy": ("S7", "pixel_accuracy"),
}


def publish_study(
    preset: str, artifacts: Sequence[Path], params_path: Path, out_dir: Path, trained_on: str | None = None
) -> Path:
    """Write the page on the study's protocol, with its own recipe or another; return its path.

    Args:
        preset: Of the first run; the page names every value that is other, and is named after another recipe's.
        artifacts: Artifacts folders of finished runs, the first under `slice_level`. Others, of either protocol, are
            averaged by protocol: more seeds, and runs by patient to stand beside.
        params_path: Params of the first run.
        out_dir: Folder of result pages.
        trained_on: Hardware of trainings that ran elsewhere, in the publisher's words.

    Raises:
        DataError: A run is unfinished, one by slice was not scored on its test slices, or the first one's split is by
            patient.
    """
    runs = [read_run(folder) for folder in artifacts]
    first, dealing = artifacts[0], read_split_facts(artifacts[0] / "split_data" / "splits")
    if dealing["protocol"] != "slice_level":
        raise DataError(f"{first}: its split is {dealing['protocol']}; name a run under slice_level first.")
    name = "leaky-study" if preset in OF_STUDY else f"leaky-{preset}"
    making = describe_making(name, f"tumor-cascade results study {preset}", MODULES, trained_on)
    params = parse_params(read_yaml(params_path), str(params_path))
    contents = read_all_contents(first, params.assemble_cascade.folds)
    require_params(params, contents)
    making["code"] |= {stage: outputs[0]["code"] for stage, outputs in contents.items()}
    facts = {
        **making,
        "preset": preset,
        "overrides": list_overrides(preset, params.model_dump()),
        "params": params.model_dump(),
        "is_leaky": True,
        "runs": runs,
        "no_learning": score_protocols(
            first / "ingest_data" / "slices",
            read_manifest(first / "ingest_data" / "manifest.parquet"),
            **{name: dealing[name] for name in ("seed", "test_share", "num_folds")},
        ),
        "matrices": find_matrices().round(6).to_dict(orient="records"),
    }
    return write_page(out_dir, facts, render_study(facts), {"scores": render_png(plot_scores(runs))})


def render_study(facts: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    preset, runs = facts["preset"], facts["runs"]
    return render_markdown(
        TEMPLATE,
        **facts,
        **describe_print(),
        recipe=describe_preset(preset, facts["overrides"]),
        is_studys=preset in OF_STUDY,
        show=lambda *value: format_range(runs, *value),
    )


def read_run(artifacts: Path) -> dict[str, Any]:
    """Return protocol, scored slices and Block S of a finished run.

    Raises:
        DataError: It is unfinished, or its split is by slice and not its test slices were scored.
    """
    [content] = read_contents(artifacts, "evaluate_cascade")
    splits_dir = artifacts / "split_data" / "splits"
    facts, slices = read_split_facts(splits_dir), read_slices(artifacts)
    partition = content["params"]["evaluate_cascade"]["partition"]
    if facts["protocol"] == "slice_level" and partition != TEST:
        raise DataError(
            f"{artifacts}: evaluate_cascade.partition is {partition}, so what was scored has chosen epochs and "
            "thresholds; the study's metrics are of test slices: `tumor-cascade configure` with "
            "`--set evaluate_cascade.partition=test`, then `dvc repro`."
        )
    return {
        "protocol": facts["protocol"],
        "seed": facts["seed"],
        "content_id": content["content_id"],
        "num_patients": int(slices["patient_id"].nunique()),
        "num_slices": len(slices),
        "num_tumor_slices": int(slices["has_tumor"].sum()),
        "share_beside_training": measure_adjacency(read_splits(splits_dir)),
        "scores": summarize_study(slices, facts["seed"]),
    }


def read_slices(artifacts: Path) -> pd.DataFrame:
    """Return the per-slice table of an evaluation.

    Raises:
        DataError: It is missing.
    """
    path = artifacts / "evaluate_cascade" / "report" / "per_slice.csv"
    try:
        return pd.read_csv(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; run `dvc repro evaluate_cascade` first.") from error


def measure_adjacency(splits: pd.DataFrame) -> float:
    """Return the share of test slices next to which, in the same volume, stands a development slice."""
    by_patient = splits.sort_values(["patient_id", "slice_index"]).groupby("patient_id")["partition"]
    is_beside = (by_patient.shift(1) == DEVELOPMENT) | (by_patient.shift(-1) == DEVELOPMENT)
    return round(float(is_beside[splits["partition"] == TEST].mean()), 6)


def describe_print() -> dict[str, Any]:
    """Return what the study prints and what follows from it, for the page."""
    return {
        "printed": {"dice": PRINTED_DICE, "iou": PRINTED_IOU, **PRINTED_PERCENT},
        "num_tumor_free": NUM_TUMOR_FREE,
        "num_tumor": NUM_TUMOR,
        "f1_bounds": bound_f1(99, 99),
        "dice_of_iou": float(dice_of_iou(PRINTED_IOU)),
    }


def collect_scores(runs: Sequence[Mapping[str, Any]], protocol: str, metric: str, key: str) -> list[float]:
    """Return a score of every run under a protocol in which it is defined."""
    scores = [run["scores"][metric].get(key) for run in runs if run["protocol"] == protocol]
    return [score for score in scores if score is not None]


def format_range(runs: Sequence[Mapping[str, Any]], protocol: str, metric: str, key: str) -> str:
    """Return the mean of a score over the runs of a protocol, with its range where there are several."""
    scores = collect_scores(runs, protocol, metric, key)
    if len(scores) < 2:
        return format_score(scores[0] if scores else None)
    return f"{np.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})"


def plot_scores(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Return the ways to count as bars, by slice and by patient, beside the Dice that the study prints."""
    figure, axes = start_figure((8.5, 4.0))
    shown = [name for name in SERIES if any(run["protocol"] == name for run in runs)]
    width = 0.8 / len(shown)
    for number, name in enumerate(shown):
        label, color = SERIES[name]
        heights = [np.mean(collect_scores(runs, name, *value) or [np.nan]) for value in BARS.values()]
        places = np.arange(len(BARS)) + (number - (len(shown) - 1) / 2) * width
        axes.bar_label(axes.bar(places, heights, width * 0.95, color=color, label=label), fmt="%.3f", fontsize=8)
    axes.axhline(PRINTED_DICE, color="black", linestyle="--", linewidth=1, label=f"printed Dice {PRINTED_DICE}")
    axes.set_xticks(np.arange(len(BARS)), list(BARS))
    axes.set(ylim=(0, 1.08), ylabel="Score")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure
