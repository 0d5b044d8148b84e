"""What the runs of stages and pipelines show, from files and records."""

import csv
import getpass
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tumor_cascade.registry.dataset import describe_dataset
from tumor_cascade.registry.executions import Execution
from tumor_cascade.registry.headlines import flatten, read_headlines
from tumor_cascade.registry.outputs import PROTOCOL_FILES, StageOutput, read_json
from tumor_cascade.registry.progress import Progress, find_progress
from tumor_cascade.registry.projection import DatasetFacts, Point, RunFacts
from tumor_cascade.registry.recipe import Recipe, get_section
from tumor_cascade.storage import CONTENT_NAME

CURVES = "curves"  # their metrics stand in a group of their own
SHORT = 8


def name_run(stage: str, fold: int | None, content_id: str) -> str:
    """Return the name of a stage's run, which tells it from its likes in a comparison."""
    return " ".join([stage, content_id[:SHORT], *([] if fold is None else [f"fold {fold}"])])


def describe_output(output: StageOutput) -> RunFacts:
    """Return what the run of a finished stage shows."""
    execution, is_training = output.execution, output.fold is not None
    progress = find_progress(output.stage, output.content_id) if is_training else None
    ended = get_end(output)
    summary = summarize(execution, progress)
    headlines = read_headlines(output.stage, output.paths.get("metrics", Path("/nowhere")))
    points = [Point(key, value, ended) for key, value in headlines.items()]
    if is_training:
        points += list_curves(output, progress, ended)
        speed = {key: summary[key] for key in ("images_per_s", "peak_memory_mb") if key in summary}
        points += [Point(f"system/{key}", float(value), ended) for key, value in speed.items()]
    return RunFacts(
        params=describe_params(output.stage, get_section(output.content), output.fold),
        tags={
            **describe_tags(output.stage, output.content_id, output.fold, execution, output.read_protocol()),
            **describe_summary(summary),
            "code": output.content["code"],
            "lock": output.content["lock"],
        },
        points=points,
        files=list_files(output),
        documents={"summary.json": summary},
        dataset=find_dataset(output.stage, output.manifest, execution),
        ended_ms=ended,
    )


def describe_running(execution: Execution, progress: Progress) -> RunFacts:
    """Return what the run of a training shows that has not ended, or has failed."""
    protocol: dict[str, Any] = {}
    splits = Path(execution.paths.get("splits", "/nowhere")) / PROTOCOL_FILES["splits"]
    if splits.is_file():
        facts = read_json(splits)
        protocol = {key: facts[key] for key in ("protocol", "is_leaky") if key in facts}
    manifest = execution.paths.get("manifest")
    return RunFacts(
        params=describe_params(execution.stage, execution.params, execution.fold),
        tags=describe_tags(execution.stage, progress.content_id, execution.fold, execution, protocol),
        points=[
            Point(f"{CURVES}/{name}", value, int(at * 1000), epoch)
            for name, value, at, epoch in progress.list_metrics()
        ],
        dataset=find_dataset(execution.stage, None if manifest is None else Path(manifest), execution),
        status="FAILED" if execution.status == "failed" else "RUNNING",
        ended_ms=None if execution.ended is None else int(execution.ended * 1000),
    )


def describe_pipeline(
    recipe: Recipe, execution: Execution | None, evaluation: StageOutput | None, manifest: Path | None
) -> RunFacts:
    """Return what the parent run shows: params of all stages, and once it is evaluated its headline metrics."""
    is_failed = execution is not None and execution.status == "failed"
    is_open = evaluation is None and execution is not None and not is_failed
    ended = int(time.time() * 1000) if evaluation is None else get_end(evaluation)
    headlines = {} if evaluation is None else read_headlines(evaluation.stage, evaluation.paths["metrics"])
    params = {
        key: value for stage, section in recipe.params.items() for key, value in describe_params(stage, section).items()
    }
    protocol = {"protocol": recipe.params["split_data"]["protocol"]}
    name = str(recipe.params["ingest_data"]["source"])
    return RunFacts(
        params=params,
        tags=describe_tags("pipeline", recipe.content_id, None, execution, protocol),
        points=[Point(key, value, ended) for key, value in headlines.items()],
        documents={"recipe.json": asdict(recipe)},
        dataset=None if manifest is None or not manifest.is_file() else describe_dataset(manifest, name, "pipeline"),
        status="FAILED" if is_failed else "RUNNING" if is_open else "FINISHED",
        ended_ms=None if is_open else ended,
    )


def describe_params(stage: str, section: Mapping[str, Any], fold: int | None = None) -> dict[str, str]:
    """Return a params section flat, under the keys of params.yaml."""
    flat = {f"{stage}.{key}": str(value) for key, value in flatten(section).items()}
    return flat if fold is None else {**flat, "fold": str(fold)}


def describe_tags(
    stage: str, content_id: str, fold: int | None, execution: Execution | None, protocol: Mapping[str, Any]
) -> dict[str, str]:
    """Return the facts that are no part of the content: who, when, where, from which commit."""
    tags: dict[str, Any] = {"stage": stage, "content_id": content_id, "fold": fold, **protocol}
    if execution is not None:
        tags |= {
            "commit": execution.commit,
            "dirty": execution.is_dirty,
            "image_digest": execution.image_digest,
            "device": execution.device,
            "host": execution.host,
            "mlflow.source.git.commit": execution.commit,
            "mlflow.user": getpass.getuser(),
        }
    tags["mlflow.source.name"] = "tumor-cascade" if stage == "pipeline" else f"tumor-cascade {stage}"
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in tags.items()
        if value is not None
    }


def summarize(execution: Execution | None, progress: Progress | None) -> dict[str, Any]:
    """Return throughput, device, peak memory and time in one."""
    summary: dict[str, Any] = {} if progress is None else progress.summarize()
    if execution is not None and execution.ended is not None:
        summary.setdefault("seconds", round(execution.ended - execution.started, 1))
        summary.setdefault("device", execution.device)
        summary.setdefault("peak_memory_bytes", execution.peak_memory_bytes)
    if summary.get("peak_memory_bytes"):
        summary["peak_memory_mb"] = round(summary.pop("peak_memory_bytes") / 2**20)
    return summary


def describe_summary(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return the summary as one tag for people."""
    units = {"images_per_s": "{:g} images/s", "device": "{}", "peak_memory_mb": "{} MB", "seconds": "{:.0f} s"}
    text = ", ".join(unit.format(summary[key]) for key, unit in units.items() if summary.get(key) is not None)
    device = {"device": str(summary["device"])} if summary.get("device") else {}
    return {**device, **({"summary": text} if text else {})}


def list_curves(output: StageOutput, progress: Progress | None, ended: int) -> list[Point]:
    """Return the curves of a training: from its log with its times, else from the report without."""
    if progress is not None:
        return [
            Point(f"{CURVES}/{name}", value, int(at * 1000), epoch)
            for name, value, at, epoch in progress.list_metrics()
        ]
    path = output.paths.get("report", Path("/nowhere")) / "curves.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.is_file() else []
    return [
        Point(f"{CURVES}/{name}", float(value), ended, int(row["epoch"]))
        for row in rows
        for name, value in row.items()
        if name != "epoch" and value
    ]


def list_files(output: StageOutput) -> list[tuple[Path, str]]:
    """Return the report with its tables and figures, and the small JSON files that say what was made."""
    report = output.paths.get("report")
    inside = sorted(report.rglob("*")) if report is not None else []
    files = [
        (path, "/".join(["report", *path.relative_to(report).parts[:-1]]))
        for path in inside
        if report is not None and path.is_file() and path.name != CONTENT_NAME
    ]
    own = [(path / name, "") for path in output.paths.values() if path.is_dir() for name in (CONTENT_NAME,)]
    facts = [(output.paths[noun] / name, "") for noun, name in PROTOCOL_FILES.items() if noun in output.paths]
    metrics = [(output.paths["metrics"], "")] if "metrics" in output.paths else []
    return files + [(path, folder) for path, folder in dict.fromkeys([*own[:1], *facts, *metrics]) if path.is_file()]


def find_dataset(stage: str, manifest: Path | None, execution: Execution | None) -> DatasetFacts | None:
    """Return the data of a run where their manifest can be reached."""
    if manifest is None or not manifest.is_file():
        return None
    recipe = None if execution is None else execution.recipe
    slices = manifest.parent / "slices" / CONTENT_NAME
    params = recipe.params["ingest_data"] if recipe else read_json(slices)["params"] if slices.is_file() else {}
    return describe_dataset(manifest, str(params.get("source", "slices")), stage)


def get_end(output: StageOutput) -> int:
    """Return when an output was made, Unix time in ms: as recorded, else as its file says."""
    if output.execution is not None and output.execution.ended is not None:
        return int(output.execution.ended * 1000)
    return int(max(path.stat().st_mtime for path in output.paths.values()) * 1000)
