"""The page of one run: what it found and what made it."""

import json
import shlex
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tumor_cascade.configuration import list_overrides
from tumor_cascade.errors import DataError
from tumor_cascade.params import STAGES, Params, parse_params, read_yaml
from tumor_cascade.registry.executions import read_execution
from tumor_cascade.registry.outputs import CONTENT_NOUNS
from tumor_cascade.results.pages import CREDITS, FACTS_NAME, PAGE_NAME, describe_today
from tumor_cascade.settings import get_runs_dir
from tumor_cascade.storage import CONTENT_NAME, atomic_dir, write_json

FIGURES = ("outcomes", "dice_per_patient", "confusion_matrix", "roc", "calibration", "dice_by_threshold", "examples")
PATIENTS_NAME = "per_patient.csv"
CONTOURS = "Contours: the truth blue, the cascade orange."
CAPTIONS = {"outcomes": CONTOURS, "examples": CONTOURS}
SPLITS = ("test", "oof")  # in the names of metrics
VOLUME_DICE = "cascade/volume_dice"
# Label, metric without its split; those with `_low` and `_high` beside them are printed with their interval.
HEADLINES = (
    ("Volume Dice of the cascade, mean over patients", VOLUME_DICE),
    ("Volume Dice of the segmenter alone", "segmenter/volume_dice"),
    ("Volume Dice with a perfect decision on each slice", "oracle/volume_dice"),
    ("Dice on tumor slices, mean over patients", "cascade/slice_dice"),
    ("Pooled Dice over all slices", "cascade/pooled_dice"),
    ("Slice AUROC", "cascade/auroc"),
    ("Slice AUROC of the classifier alone", "classifier/auroc"),
    ("Slice AUROC of the segmenter's own score", "segmenter/auroc"),
    ("Slice accuracy", "cascade/accuracy"),
    ("Slice sensitivity", "cascade/sensitivity"),
    ("Slice specificity", "cascade/specificity"),
    ("No learning, most similar slice copied: volume Dice", "nearest_neighbor/volume_dice"),
    ("No learning, most similar slice copied: slice AUROC", "nearest_neighbor/auroc"),
    ("No learning, position in the volume alone: slice AUROC", "position/auroc"),
    ("No learning, position in the volume alone: slice accuracy", "position/accuracy"),
    ("No learning, every slice called tumor-free: accuracy", "nothing/accuracy"),
)


def publish_results(
    name: str, preset: str, artifacts: Path, params_path: Path, out_dir: Path, trained_on: str | None = None
) -> Path:
    """Write a page about the run whose artifacts stand in a folder; return its path.

    Args:
        name: Of the page.
        preset: That the params were made from; the page names every value that is other.
        artifacts: Folder of all stages' outputs.
        params_path: The params of the run.
        out_dir: Folder of result pages; the page is `<out_dir>/<name>/README.md`.
        trained_on: Hardware of trainings whose records are elsewhere, in the publisher's words.

    Raises:
        DataError: A stage has not run, or the artifacts were made with other params.
    """
    params = parse_params(read_yaml(params_path), params_path.name)
    contents = read_all_contents(artifacts, params.assemble_cascade.folds)
    require_params(params, contents)
    [evaluated] = contents["evaluate_cascade"]
    report = artifacts / "evaluate_cascade" / "report"
    metrics = json.loads((artifacts / "evaluate_cascade" / "metrics.json").read_text(encoding="utf-8"))
    facts = {
        "name": name,
        "preset": preset,
        "overrides": list_overrides(preset, params.model_dump()),
        **(
            (recall_making(out_dir / name, evaluated["content_id"]) if trained_on is None else None)
            or {
                **describe_today(trained_on),
                "is_made_here": trained_on is None and was_made_here(artifacts, contents),
                "has_word": trained_on is not None,
            }
        ),
        **{key: evaluated[key] for key in ("protocol", "is_leaky", "scope", "content_id", "lock")},
        "source": params.ingest_data.source,
        "code": {stage: found[0]["code"] for stage, found in contents.items()},
        "params": params.model_dump(),
        "metrics": metrics,
        "has_patients": True,  # pages of earlier versions lack the table
    }
    with atomic_dir(out_dir / name) as folder:
        for figure in FIGURES:
            shutil.copyfile(report / "figures" / f"{figure}.png", folder / f"{figure}.png")
        shutil.copyfile(report / PATIENTS_NAME, folder / PATIENTS_NAME)
        for role in ("classifier", "segmenter"):
            fold = params.assemble_cascade.folds[0]
            curves = artifacts / f"train_{role}" / f"fold-{fold}" / "report" / "curves.png"
            shutil.copyfile(curves, folder / f"{role}_curves.png")
        write_json(folder / FACTS_NAME, facts)
        (folder / PAGE_NAME).write_text(render_page(facts), encoding="utf-8")
    return out_dir / name / PAGE_NAME


def read_all_contents(artifacts: Path, folds: Sequence[int]) -> dict[str, list[dict[str, Any]]]:
    """Return what the outputs of each stage are made of, of trainings those of these folds.

    Without `validate_data` where it has not run: a bare GPU machine lacks its packages.

    Raises:
        DataError: Another stage has no output.
    """
    stages = [stage for stage in STAGES if stage != "validate_data" or (artifacts / stage).exists()]
    return {stage: read_contents(artifacts, stage, folds) for stage in stages}


def read_contents(artifacts: Path, stage: str, folds: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Return what each output of a stage is made of; of a training, that of each of these folds.

    Outputs of other folds may stand beside them, left by an earlier run: DVC does not remove what it no longer makes.

    Raises:
        DataError: An output is missing.
    """
    folders = [f"fold-{fold}/" for fold in folds] if stage.startswith("train_") else [""]
    paths = [artifacts / stage / f"{folder}{CONTENT_NOUNS[stage]}" / CONTENT_NAME for folder in folders]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path.parent} is missing, an output of {stage}; run `dvc repro` first.")
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def require_params(params: Params, contents: dict[str, list[dict[str, Any]]]) -> None:
    """Refuse params that a run's outputs were not made with.

    Args:
        params: As they stand now.
        contents: Stage -> content.json of each of its outputs.

    Raises:
        DataError: Naming each value.
    """
    now, lines = params.model_dump(mode="json"), dict[str, None]()
    for stage, outputs in contents.items():
        for content in outputs:
            made = content["params"].get(stage, content["params"])
            for key in (key for key in now[stage] if key in made and made[key] != now[stage][key]):
                lines[f"{stage}.{key} is {now[stage][key]} now, it was {made[key]} when {stage} ran"] = None
    if lines:
        remedy = "run `dvc repro`, or `tumor-cascade configure` what the run was made with"
        raise DataError(list(lines), f"the artifacts were made with other params; {remedy}:")


def was_made_here(artifacts: Path, contents: dict[str, list[dict[str, Any]]]) -> bool:
    """Say whether records beside the artifacts tell that this machine has trained and scored them."""
    runs = artifacts.parent / get_runs_dir()
    records = [
        read_execution(runs / stage / f"{content['content_id']}.json")
        for stage in ("train_classifier", "train_segmenter", "evaluate_cascade")
        for content in contents[stage]
    ]
    return all(record is not None and record.host == socket.gethostname() for record in records)


def recall_making(folder: Path, content_id: str) -> dict[str, Any] | None:
    """Return date and hardware of a page that shows the same run already; None if there is none."""
    path = folder / FACTS_NAME
    facts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    keys = ("date", "hardware", "is_made_here", "has_word")
    return {key: facts[key] for key in keys if key in facts} if facts.get("content_id") == content_id else None


def render_page(facts: dict[str, Any]) -> str:
    """Return the page as Markdown."""
    split, metrics = split_names(facts["metrics"])
    rows = [f"| {label} | {format_metric(metrics, key)} |" for label, key in HEADLINES if metrics.get(key) is not None]
    leak = ""
    if facts["is_leaky"]:
        num_slices = metrics["cascade/num_slices"] / metrics["cascade/num_patients"]
        leak = (
            " **Leaky: slices of one patient on both sides; for comparison only. Volume Dice is here of a patient's "
            f"scored slices, {num_slices:.1f} on average, not of a volume: no figure by patient compares with it.**"
        )
    is_locked = split == "test" and not facts["is_leaky"]
    opening = f" The locked test set was opened for this page on {facts['date']}." if is_locked else ""
    unknown = "Published on" if facts.get("has_word") else "Trained where no record here tells, published on"
    made = "Trained and scored on" if facts["is_made_here"] else unknown  # pages of earlier versions have no word
    confidence = facts["params"]["evaluate_cascade"]["confidence"]
    lines = [
        f"# Results: `{facts['name']}`",
        "",
        f"Scored: {facts['scope']}. {metrics['cascade/num_patients']} patients, {metrics['cascade/num_slices']} "
        f"slices, {metrics['cascade/num_tumor_slices']} with tumor. Protocol: `{facts['protocol']}`.{leak} "
        f"{made} {facts['hardware']}, {facts['date']}.{opening} "
        f"`content_id` `{facts['content_id'][:16]}`.",
        "",
        f"Made by `{describe_commands(facts)}`. Brackets: {100 * confidence:g} % bootstrap interval over patients. "
        "Research use only.",
        "",
        "| metric | value |",
        "|---|---|",
        *rows,
        "",
        *([f"Patient by patient: [{PATIENTS_NAME}]({PATIENTS_NAME}).", ""] if facts.get("has_patients") else []),
        *(show_figure(figure) for figure in (*FIGURES, "classifier_curves", "segmenter_curves")),
        CREDITS[facts["source"]],
        "",
    ]
    return "\n".join(lines)


def show_figure(name: str) -> str:
    """Return the lines that show a figure, and say what its colors mean where it does not itself."""
    lines = [f"![{name}]({name}.png)", CAPTIONS.get(name, "")]
    return "\n\n".join(filter(None, lines)) + "\n"


def describe_commands(facts: dict[str, Any]) -> str:
    """Return the commands that make a page and all that it shows."""
    name, preset = facts["name"], facts["preset"]
    settings = "".join(f" --set {shlex.quote(override)}" for override in facts["overrides"])
    publish = f"results publish {name}" + (f" --preset {preset}" if name != preset else "")
    return f"tumor-cascade configure {preset}{settings} && dvc repro && tumor-cascade {publish}"


def split_names(metrics: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the split of an evaluation's metrics, and these without it in their names."""
    split = next(split for split in SPLITS if f"cascade/{split}_num_patients" in metrics)
    return split, {name.replace(f"/{split}_", "/"): value for name, value in metrics.items()}


def format_metric(metrics: dict[str, Any], key: str) -> str:
    """Return a metric with its interval where it has one; a dash where it is undefined."""
    if metrics.get(key) is None:
        return "-"
    low, high = metrics.get(f"{key}_low"), metrics.get(f"{key}_high")
    interval = "" if low is None or high is None else f" [{low:.3f}, {high:.3f}]"
    return f"{metrics[key]:.3f}{interval}"
