"""Climbing the ladder: from the study's recipe to the product in single changes, each trained and judged out-of-fold.

Rows are run by the pipeline's own stages; outputs stand in folders named after what they are made of, so rows share
what they have in common and a stopped climb carries on.
"""

import fcntl
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tumor_cascade.content import describe_content, hash_code
from tumor_cascade.data.cohort import iterate_volumes, read_rows
from tumor_cascade.errors import DataError
from tumor_cascade.evaluation.tuning import choose_out_of_fold, start_settings
from tumor_cascade.evaluation.validation import ValidationScores, score_volume
from tumor_cascade.models.cascade import Cascade
from tumor_cascade.params import AssembleCascadeParams, Params, TrainSegmenterParams
from tumor_cascade.product import find_networks
from tumor_cascade.results.ladder_rows import Row
from tumor_cascade.stages.assemble_cascade import read_members, tabulate_slices
from tumor_cascade.storage import atomic_file
from tumor_cascade.training import restoration

ID_LENGTH = 16
ROLES = ("classifier", "segmenter")


@dataclass(frozen=True)
class Workplace:
    """Where the ladder reads and writes.

    Attributes:
        slices: Folder of packed volumes.
        manifest: `manifest.parquet` of `ingest_data`.
        folder: Everything that the ladder writes.
    """

    slices: Path
    manifest: Path
    folder: Path

    @classmethod
    def open(cls, artifacts: Path) -> "Workplace":
        """Return the workplace beside the pipeline's outputs.

        Raises:
            DataError: The data have not been ingested.
        """
        ingested = artifacts / "ingest_data"
        if not (ingested / "manifest.parquet").is_file():
            raise DataError(
                f"{ingested} has no manifest; put the data into data/raw and run `dvc repro validate_data`."
            )
        return cls(ingested / "slices", ingested / "manifest.parquet", artifacts / "ladder")

    def locate(self, stage: str, params: dict[str, Any], inputs: dict[str, Path]) -> Path:
        """Return the folder of a stage's outputs: named after everything that they are made of."""
        content_id: str = describe_content(stage, params, inputs)["content_id"]
        return self.folder / stage / content_id[:ID_LENGTH]


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keep other processes from the same work; wait for theirs to end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run_stage(stage: str, params: Any, outputs: dict[str, Path], **inputs: Any) -> None:
    """Run a stage unless its outputs stand; `outputs` are artifact nouns and paths, the metrics last."""
    *_, last = outputs.values()
    with hold(last):
        if last.exists():
            return
        function = getattr(importlib.import_module(f"tumor_cascade.stages.{stage}"), stage)
        function(params, **inputs, **{f"out_{noun}": path for noun, path in outputs.items()})


def split(workplace: Workplace, params: Params) -> Path:
    """Return the splits of a row's params, made if need be."""
    root = workplace.locate("split_data", params.split_data.model_dump(), {"manifest": workplace.manifest})
    outputs = {"splits": root / "splits", "metrics": root / "metrics.json"}
    run_stage("split_data", params.split_data, outputs, manifest=workplace.manifest, slices=workplace.slices)
    return root / "splits"


def plan_training(workplace: Workplace, row: Row, role: str) -> tuple[Any, Path]:
    """Return the params section of a row's training, and the folder that holds the role's folds."""
    params, stage = row.read_params(), f"train_{role}"
    section = named = getattr(params, stage)
    if row.start is not None and role == "classifier":
        encoders = plan_start(workplace, row)
        section = section.model_copy(update={"initialization": str(encoders / "fold-{fold}" / "segmenter")})
        named = section.model_copy(update={"initialization": encoders.name})  # the same content on any machine
    inputs = {"manifest": workplace.manifest, "splits": split(workplace, params)}
    return section, workplace.locate(stage, named.model_dump(), inputs)


def plan_start(workplace: Workplace, row: Row) -> Path:
    """Return the folder that holds the folds of the encoders that a row's classifier starts from."""
    assert row.start is not None
    if not row.is_start_restored:
        return plan_training(workplace, row.start, "segmenter")[1]
    inputs = {"manifest": workplace.manifest, "splits": split(workplace, row.read_params())}
    return workplace.locate(restoration.__name__, read_restoration(row).model_dump(), inputs)


def read_restoration(row: Row) -> TrainSegmenterParams:
    """Return how a row's starting encoder learns to restore images: like the segmenter of the row that it is from."""
    assert row.start is not None
    return row.start.read_params().train_segmenter.model_copy(update={"monitor": "loss"})


def train_start(workplace: Workplace, row: Row, fold: int) -> None:
    """Train the encoder that a row's classifier starts from, if need be."""
    assert row.start is not None
    if not row.is_start_restored:
        train(workplace, row.start, "segmenter", fold)
        return
    out = plan_start(workplace, row) / f"fold-{fold}" / "segmenter"
    with hold(out):
        if not out.exists():
            restoration.pretrain_encoder(
                read_restoration(row),
                fold=fold,
                slices=workplace.slices,
                manifest=workplace.manifest,
                splits=split(workplace, row.read_params()),
                out_encoder=out,
            )


def train(workplace: Workplace, row: Row, role: str, fold: int) -> Path:
    """Train one network of a row, if need be; return the folder that holds the role's folds."""
    if row.start is not None and role == "classifier":
        train_start(workplace, row, fold)
    section, root = plan_training(workplace, row, role)
    outputs = {noun: root / f"fold-{fold}" / noun for noun in (role, "report")}
    run_stage(
        f"train_{role}",
        section,
        {**outputs, "metrics": root / f"fold-{fold}" / "metrics.json"},
        fold=fold,
        slices=workplace.slices,
        manifest=workplace.manifest,
        splits=split(workplace, row.read_params()),
    )
    return root


def locate_networks(workplace: Workplace, row: Row) -> dict[str, Path]:
    """Return the folders that hold the folds of a row's networks: a classifier, a segmenter, those averaged with it."""
    roots = {role: plan_training(workplace, row, role)[1] for role in ROLES}
    others = [plan_training(workplace, other, "segmenter")[1] for other in row.averaged]
    return roots | {f"segmenter-{number}": root for number, root in enumerate(others, start=2)}


def is_trained(workplace: Workplace, row: Row) -> bool:
    """Say whether all networks of a row stand."""
    roots = locate_networks(workplace, row).values()
    return all((root / f"fold-{fold}" / "metrics.json").exists() for root in roots for fold in row.folds)


def describe_judge(row: Row) -> dict[str, Any]:
    """Return what decides how a row is judged, besides the stage's own code: averages are this module's."""
    given: dict[str, Any] = row.read_params().assemble_cascade.model_dump()
    return {**given, "judge": hash_code(__name__)} if row.averaged else given


def assemble(workplace: Workplace, row: Row) -> Path:
    """Judge a trained row out-of-fold, if need be; return the folder of its report."""
    params = row.read_params()
    splits, roots = split(workplace, params), locate_networks(workplace, row)
    networks = {
        f"{name}-{fold}": root / f"fold-{fold}" / name.partition("-")[0] / "content.json"
        for name, root in roots.items()
        for fold in row.folds
    }
    root = workplace.locate("assemble_cascade", describe_judge(row), {**networks, "splits": splits})
    if row.averaged:
        judge_average(params.assemble_cascade, workplace, splits, list(roots.values()), root / "report" / "slices.csv")
        return root
    outputs = {noun: root / noun for noun in ("cascade", "report")}
    run_stage(
        "assemble_cascade",
        params.assemble_cascade,
        {**outputs, "metrics": root / "metrics.json"},
        slices=workplace.slices,
        manifest=workplace.manifest,
        splits=splits,
        **roots,
    )
    return root


def judge_average(
    params: AssembleCascadeParams, workplace: Workplace, splits: Path, roots: list[Path], out: Path
) -> None:
    """Write out-of-fold scores, a line per slice, of cascades with one classifier and several segmenters a fold.

    Args:
        params: How thresholds are chosen.
        workplace: Of the ladder.
        splits: Output of `split_data`.
        roots: Folders that hold the folds of the classifier, then of each segmenter.
        out: Table to write, unless it stands.
    """
    with hold(out):
        if out.exists():
            return
        classifiers, *segmenters = (find_networks(root, params.folds) for root in roots)
        rows, parts = read_rows(workplace.manifest, splits), []
        groups = [read_members({"classifiers": classifiers, "segmenters": paths}, rows) for paths in segmenters]
        for members in zip(*groups, strict=True):
            first = members[0]
            cascade = Cascade([first.classifier], [member.segmenter for member in members], start_settings(params))
            for patient_rows, volume in iterate_volumes(workplace.slices, first.rows):
                parts.append(score_volume(cascade, patient_rows, volume, params.mask_thresholds))
        table = pd.concat([part.slices for part in parts], ignore_index=True)
        counts = (np.concatenate([getattr(part, name) for part in parts]) for name in ("px", "hit_px"))
        scores = ValidationScores(table, *counts)
        with atomic_file(out) as temporary:
            tabulate_slices(params, scores, choose_out_of_fold(params, scores)).to_csv(
                temporary, index=False, float_format="%.6g"
            )


def climb(workplace: Workplace, rows: list[Row], folds: list[int]) -> Iterator[tuple[Row, int]]:
    """Train rows on some of their folds, one after another; yield each as it is done.

    A row whose folds are all trained is judged at once, so processes with a fold each share the work.
    """
    for row in rows:
        for fold in (fold for fold in folds if fold in row.folds):
            for role in ROLES:
                train(workplace, row, role, fold)
            for other in row.averaged:
                train(workplace, other, "segmenter", fold)
            if is_trained(workplace, row):
                assemble(workplace, row)
            yield row, fold


def read_slices(workplace: Workplace, row: Row) -> pd.DataFrame | None:
    """Return a row's out-of-fold scores, a line per slice; None where it has not been run."""
    if not is_trained(workplace, row):
        return None
    return pd.read_csv(assemble(workplace, row) / "report" / "slices.csv")
