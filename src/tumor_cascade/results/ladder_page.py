"""The ladder's page: what each single change of the recipe was worth, out-of-fold, paired by patient."""

import hashlib
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tumor_cascade.evaluation.figures import BLUE, ORANGE, render_png
from tumor_cascade.evaluation.kept_masks import KeptMasks
from tumor_cascade.evaluation.statistics import Bootstrap, Estimate, Floats, Statistic, auroc_of, difference_of, mean_of
from tumor_cascade.params import EvaluateCascadeParams
from tumor_cascade.results.ladder import Workplace
from tumor_cascade.results.ladder_rows import Ladder, Row, read_ladder
from tumor_cascade.results.ladder_scores import RowScores, collect_scores
from tumor_cascade.results.pages import CREDITS, describe_making, render_markdown, write_page
from tumor_cascade.storage import canonical_json

NAME = "ladder"
TEMPLATE = "ladder_page.md.j2"
RUN_COMMAND, COMMAND = "tumor-cascade ladder run", "tumor-cascade ladder publish"
TITLE_WIDTH = 48  # letters of a line beside the picture
MODULES = ("split_data", "train_classifier", "train_segmenter", "assemble_cascade", "tumor_cascade.results.ladder")


def publish_ladder(artifacts: Path, out_dir: Path) -> Path:
    """Judge all rows that have been run and write the page; return its path.

    Args:
        artifacts: Outputs of the pipeline, with the ladder's own beside them.
        out_dir: Folder of result pages.

    Raises:
        DataError: The data have not been ingested.
    """
    ladder = read_ladder()
    scores = collect_scores(Workplace.open(artifacts), ladder.rows, out_dir / NAME)
    steps = measure_steps(scores, ladder)
    rows = [describe_row(row, steps) for row in ladder.rows]
    for row in rows:
        row["making"] = scores[row["name"]].making if row["is_run"] else None
    params = ladder.rows[0].read_params()
    facts = {
        **describe_making(NAME, COMMAND, MODULES),
        "run_command": RUN_COMMAND,
        "preset": ladder.rows[-1].preset,
        "folds": ladder.folds,
        "input_size_px": ladder.rows[1].read_params().train_segmenter.input_size_px,
        "confidence": f"{100 * params.evaluate_cascade.confidence:g}",
        "recipes": hash_recipes(ladder),
        "rows": rows,
    }
    table, starts = ("\n".join(tabulate(rows)) for tabulate in (tabulate_ladder, tabulate_starts))
    drawn = [row for row in rows if row["is_run"] and not row["is_leaky"]]  # a few slices of a patient are no volume
    credit = CREDITS[params.ingest_data.source]
    page = render_markdown(TEMPLATE, **facts, table=table, starts=starts, has_figure=bool(drawn), credit=credit)
    figures = {"ladder": render_png(plot_ladder(drawn))} if drawn else {}
    return write_page(out_dir, facts, page, figures, {name: one.slices for name, one in scores.items()})


def hash_recipes(ladder: Ladder) -> dict[str, str]:
    """Return a digest of each row's params, and of those of the rows that it starts from or is averaged with."""
    return {row.name: hash_recipe(row) for row in ladder.rows}


def hash_recipe(row: Row) -> str:
    """Return the digest of one row."""
    others = [hash_recipe(other) for other in (row.start, *row.averaged) if other is not None]
    recipe = [row.read_params().model_dump(mode="json"), row.is_start_restored, others]
    return hashlib.sha256(canonical_json(recipe)).hexdigest()


@dataclass(frozen=True)
class Step:
    """A row that has been run.

    Attributes:
        patients: Ids in sorted order.
        num_slices: Of these patients, as many as were scored.
        cascade_dice: Volume Dice per patient, `(P,)`.
        segmenter_dice: The same without a gate, `(P,)`.
        clean_share: Of tumor-free slices, those that the segmenter alone leaves empty.
        classifier_auroc: Of its slice scores.
        segmenter_auroc: Of the segmenter's own slice score.
        bootstrap: Resamples of these patients.
    """

    patients: tuple[str, ...]
    num_slices: int
    cascade_dice: Floats
    segmenter_dice: Floats
    clean_share: float
    classifier_auroc: Statistic
    segmenter_auroc: Statistic
    bootstrap: Bootstrap


def measure_step(slices: pd.DataFrame, params: EvaluateCascadeParams) -> Step:
    """Return a row's scores from its per-slice table."""
    masks, labels = KeptMasks.from_table(slices), slices["has_tumor"].to_numpy(bool)
    owners, patients = pd.factorize(slices["patient_id"], sort=True)
    bootstrap = Bootstrap(
        len(patients), num_resamples=params.num_bootstrap, confidence=params.confidence, seed=params.seed
    )
    return Step(
        patients=tuple(patients),
        num_slices=len(slices),
        cascade_dice=masks.measure_dice(slices["is_positive"].to_numpy(bool)),
        segmenter_dice=masks.measure_dice(np.ones_like(labels)),
        clean_share=float((slices["segmenter_px"].to_numpy()[~labels] == 0).mean()),
        classifier_auroc=auroc_of(slices["classifier_logit"], labels, owners),
        segmenter_auroc=auroc_of(slices["segmenter_score"], labels, owners),
        bootstrap=bootstrap,
    )


def measure_steps(scores: dict[str, RowScores], ladder: Ladder) -> dict[str, Step]:
    """Return the steps that have been run, by row."""
    return {
        row.name: measure_step(scores[row.name].slices, row.read_params().evaluate_cascade)
        for row in ladder.rows
        if row.name in scores
    }


def describe_row(row: Row, steps: dict[str, Step]) -> dict[str, Any]:
    """Return a row of the table as plain values; without scores where it has not been run.

    The differences are to the row that it changes, an average's to its best member, paired by patient; there is none to
    another split.
    """
    facts: dict[str, Any] = {
        "name": row.name,
        "title": row.title,
        "base": row.base,
        "is_branch": row.is_branch,
        "preset": row.preset,
        "is_leaky": row.read_params().split_data.protocol == "slice_level",
        "changes": row.changes,
        "start": None if row.start is None else row.start.name,
        "is_start_restored": row.is_start_restored,
        "averaged": [other.name for other in row.averaged],
        "random_start": row.random_start,
        "starts_classifier": row.starts_classifier,
        "is_run": row.name in steps,
    }
    step = steps.get(row.name)
    if step is None:
        return facts
    members = [steps[name] for name in (row.base, *(other.name for other in row.averaged)) if name in steps]
    base = max(members, key=lambda member: np.nanmean(member.segmenter_dice), default=None)
    estimates = {
        "volume_dice": step.bootstrap.estimate(mean_of(step.cascade_dice)),
        "ungated_volume_dice": step.bootstrap.estimate(mean_of(step.segmenter_dice)),
        "segmenter_auroc": step.bootstrap.estimate(step.segmenter_auroc),
        "classifier_auroc": step.bootstrap.estimate(step.classifier_auroc),
    }
    if base is not None and base.patients == step.patients:
        gain, ungated = step.cascade_dice - base.cascade_dice, step.segmenter_dice - base.segmenter_dice
        estimates["gain"] = step.bootstrap.estimate(mean_of(gain))
        estimates["ungated_gain"] = step.bootstrap.estimate(mean_of(ungated))
    if row.random_start in steps:
        estimates["start_gain"] = compare_start(step, steps[row.random_start], has_classifier=row.starts_classifier)
    flat = {name: [value.value, value.low, value.high] for name, value in estimates.items()}
    counts = {"num_patients": len(step.patients), "num_slices": step.num_slices}
    return {**facts, **flat, **counts, "clean_share": step.clean_share}


def compare_start(step: Step, random: Step, *, has_classifier: bool) -> Estimate:
    """Return what a start gains on random weights, paired by patient: slice AUROC of a classifier, else volume Dice."""
    if has_classifier:
        return step.bootstrap.estimate(difference_of(step.classifier_auroc, random.classifier_auroc))
    return step.bootstrap.estimate(mean_of(step.segmenter_dice - random.segmenter_dice))


def tabulate_starts(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table of what networks start from; none where no row and its random one have been run."""
    by_name = {row["name"]: row for row in rows}
    lines = []
    for row in (row for row in rows if "start_gain" in row):
        key, what = (
            ("classifier_auroc", "AUROC") if row["starts_classifier"] else ("ungated_volume_dice", "volume Dice")
        )
        scores = [show(one[key]) for one in (by_name[row["random_start"]], row)]
        lines.append(f"| {row['title']} | {what} | {' | '.join(scores)} | {show(row['start_gain'], is_signed=True)} |")
    head = ["| start | measured by | from random weights | from this start | gain |", "|---|---|---|---|---|"]
    return head + lines if lines else []


def tabulate_ladder(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the Markdown table."""
    lines = [
        "| change | patients, slices | volume Dice | gain | without a gate | gain | tumor-free slices left empty "
        "without a gate | slice AUROC of the segmenter | of the classifier |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        title = row["title"] + (f" (on `{row['base']}`)" if row["is_branch"] else "")
        if not row["is_run"]:
            lines.append(f"| {title} | not run | | | | | | | |")
            continue
        cells = [
            f"{row['num_patients']}, {row['num_slices']:,}",
            show(row["volume_dice"]),
            show(row.get("gain"), is_signed=True),
            show(row["ungated_volume_dice"]),
            show(row.get("ungated_gain"), is_signed=True),
            f"{row['clean_share']:.1%}",
            show(row["segmenter_auroc"]),
            show(row["classifier_auroc"]),
        ]
        lines.append(f"| {' | '.join([title, *cells])} |")
    return lines


def show(values: list[float | None] | None, *, is_signed: bool = False) -> str:
    """Return a value with its interval; a dash where there is none."""
    if values is None or values[0] is None:
        return "-"
    value, *bounds = (format(one, "+.3f" if is_signed else ".3f") for one in values if one is not None)
    return f"{value} [{', '.join(bounds)}]" if bounds else value


def plot_ladder(rows: list[dict[str, Any]]) -> Figure:
    """Return volume Dice with intervals, with and without a gate, a line per row; all have been run."""
    figure = Figure(figsize=(9, 1.2 + 0.5 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for key, label, color, shift in (
        ("ungated_volume_dice", "Segmenter without a gate", ORANGE, 0.12),
        ("volume_dice", "Cascade", BLUE, -0.12),
    ):
        values = np.array([row[key] for row in rows], dtype=float)  # (R, 3): value, low, high
        height = np.arange(len(rows)) + shift
        errors = [values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]
        axes.errorbar(values[:, 0], height, xerr=errors, fmt="o", color=color, capsize=3, label=label)
    titles = [textwrap.fill(row["title"], TITLE_WIDTH) for row in rows]
    axes.set(yticks=range(len(rows)), yticklabels=titles, xlabel="Volume Dice, mean over patients")
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    figure.legend(frameon=False, loc="outside upper right", ncols=2)
    return figure
