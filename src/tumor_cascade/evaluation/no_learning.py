"""What no learning at all scores on the same slices: the floor under every headline, and a sign of leaks.

Three baselines, answered from the development slices outside a slice's own fold, as networks are:

- `nearest_neighbor`: label and mask of the slice that looks most alike at 32x32.
- `position`: where in its volume a slice stands, and nothing of what it shows.
- `nothing`: every slice is called tumor-free and left empty.

Under a split of slices the nearest neighbor is mostly the slice next door, whose mask is nearly right; under a split of
patients it is a stranger's.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from tumor_cascade.data.split import DEVELOPMENT, TEST, TEST_FOLD
from tumor_cascade.data.stratification import Protocol, split_slices
from tumor_cascade.data.thumbnails import Thumbnails, find_nearest, read_thumbnails
from tumor_cascade.data.volumes import NUM_SEQUENCES, volume_path
from tumor_cascade.evaluation.statistics import divide

BASELINES = ("nearest_neighbor", "position", "nothing")
NUM_POSITION_BINS = 20
NUM_DIGITS = 6

# Under a split of slices the test part counts, as published; by patient only development, out-of-fold: the test set
# stays locked.
SCORED_PARTITION: dict[Protocol, str] = {"patient_level": DEVELOPMENT, "slice_level": TEST}

Floats = NDArray[np.float64]
Scores = dict[str, dict[str, float | None]]


def score_protocols(
    slices: Path, manifest: pd.DataFrame, *, seed: int, test_share: float, num_folds: int
) -> dict[str, Scores]:
    """Return the scores of the baselines on the same data under both protocols, see `score_baselines`.

    Args:
        slices: Folder of packed volumes.
        manifest: One row per slice, sorted by patient and slice.
        seed: Of both splits.
        test_share: Of both splits.
        num_folds: Of both splits.
    """
    scores = {}
    for protocol, partition in SCORED_PARTITION.items():
        splits = split_slices(manifest, protocol, seed=seed, test_share=test_share, num_folds=num_folds)
        is_scored = (splits["partition"] == partition).to_numpy()
        scores[str(protocol)] = score_baselines(slices, manifest.assign(fold=splits["fold"]), is_scored)
    return scores


def score_baselines(slices: Path, rows: pd.DataFrame, is_scored: NDArray[np.bool_]) -> Scores:
    """Return the scores of the baselines on some slices of a split.

    Args:
        slices: Folder of packed volumes.
        rows: Manifest rows of all patients with their `fold`, see `read_rows`. A slice is answered from the development
            slices outside its fold: in development out-of-fold, in the test set from all of development.
        is_scored: bool `(N,)`, the slices that count.

    Returns:
        Baseline -> `accuracy` and `auroc` of "does this slice show tumor", `slice_dice` (mean over tumor slices),
        `volume_dice` (mean over patients with tumor, from their scored slices), `pixel_accuracy` (over all scored
        slices). None where undefined: slices of one class only, or a baseline that draws no masks. Nothing at all
        where a fold has no other to answer from.

    Raises:
        DataError: A volume is missing or differs from the manifest.
    """
    rows = rows.reset_index(drop=True)
    rows = rows.assign(num_slices=rows.groupby("patient_id")["slice_index"].transform("size"))
    thumbnails, folds = read_thumbnails(slices, rows), rows["fold"].to_numpy()
    parts = []
    for fold in np.unique(folds[is_scored]):
        asked = rows[np.asarray(is_scored) & (folds == fold)]
        known = rows[(folds != TEST_FOLD) & (folds != fold)]
        if known.empty:
            return {}
        parts.append(answer_slices(slices, thumbnails, asked, known))
    answers = pd.concat(parts)
    return {name: summarize_answers(answers, name) for name in BASELINES}


def answer_slices(slices: Path, thumbnails: Thumbnails, asked: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return the answers to slices from known ones: `<baseline>_score`, `_px`, `_hit_px`, beside the truth.

    Args:
        slices: Folder of packed volumes.
        thumbnails: uint8 `(N, D)`, of all slices; the index of both frames counts in it.
        asked: Manifest rows to answer.
        known: Manifest rows whose labels and masks may be used.
    """
    nearest, _ = find_nearest(thumbnails[asked.index], thumbnails[known.index])
    pairs = zip(asked.itertuples(), known.iloc[nearest].itertuples(), strict=True)
    px, hit_px = np.array([count_copied_pixels(slices, one, other) for one, other in pairs]).T
    return asked[["patient_id", "has_tumor", "tumor_area_px"]].assign(
        num_px=asked["height_px"] * asked["width_px"],
        nearest_neighbor_score=score_likeness(thumbnails, asked, known),
        nearest_neighbor_px=px,
        nearest_neighbor_hit_px=hit_px,
        position_score=score_position(asked, known),
        position_px=np.nan,
        position_hit_px=np.nan,
        nothing_score=0.0,
        nothing_px=0,
        nothing_hit_px=0,
    )


def score_likeness(thumbnails: Thumbnails, asked: pd.DataFrame, known: pd.DataFrame) -> Floats:
    """Return how much nearer the next known tumor slice is than the next tumor-free one: 0.5 where both are as near."""
    distances = []
    for label in (True, False):
        of_class = known.index[known["has_tumor"] == label]
        if of_class.empty:
            return np.full(len(asked), float(not label))
        distances.append(find_nearest(thumbnails[asked.index], thumbnails[of_class])[1])
    to_tumor, to_free = distances
    return np.nan_to_num(divide(to_free, to_tumor + to_free), nan=0.5)


def score_position(asked: pd.DataFrame, known: pd.DataFrame) -> Floats:
    """Return the share of tumor slices among known ones in the same twentieth of their volume; 0 without any."""
    bins, of_known = measure_position(asked), measure_position(known)
    tumor = np.bincount(of_known[known["has_tumor"].to_numpy(bool)], minlength=NUM_POSITION_BINS)
    shares: Floats = np.nan_to_num(divide(tumor, np.bincount(of_known, minlength=NUM_POSITION_BINS)))[bins]
    return shares


def measure_position(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Return in which twentieth of its volume each slice stands, int64 `(N,)` from 0; needs `num_slices`."""
    return (rows["slice_index"] * NUM_POSITION_BINS // rows["num_slices"]).to_numpy(np.int64)


def count_copied_pixels(slices: Path, row: Any, other: Any) -> tuple[int, int]:
    """Return the pixels of another slice's mask, and those that lie on a slice's own tumor.

    Args:
        slices: Folder of packed volumes that have been checked against their manifest.
        row: The slice, a named tuple of its manifest row.
        other: The slice whose mask is copied; resized where sizes differ.
    """
    if not other.has_tumor:
        return 0, 0
    size = (row.width_px, row.height_px)
    mask = np.asarray(Image.fromarray(read_mask(slices, other)).resize(size, Image.Resampling.NEAREST)) > 0
    return int(mask.sum()), int((mask & (read_mask(slices, row) > 0)).sum()) if row.has_tumor else 0


def read_mask(slices: Path, row: Any) -> NDArray[np.uint8]:
    """Return the mask {0, 1} `(H, W)` of one slice, without reading the rest of its volume."""
    volume = np.load(volume_path(slices, row.patient_id), mmap_mode="r", allow_pickle=False)
    return np.array(volume[row.slice_index, NUM_SEQUENCES])


def summarize_answers(answers: pd.DataFrame, baseline: str) -> dict[str, float | None]:
    """Return the scores of one baseline, see `score_baselines`."""
    has_tumor, score = answers["has_tumor"].to_numpy(bool), answers[f"{baseline}_score"].to_numpy(float)
    columns = ["tumor_area_px", f"{baseline}_px", f"{baseline}_hit_px", "num_px"]
    tumor, px, hits, size = answers[columns].to_numpy(float).T
    per_volume = answers[columns].groupby(answers["patient_id"]).sum(min_count=1)
    volume_tumor, volume_px, volume_hits, _ = per_volume[per_volume["tumor_area_px"] > 0].to_numpy(float).T
    scores = {
        "accuracy": np.mean((score >= 0.5) == has_tumor),
        "auroc": roc_auc_score(has_tumor, score) if 0 < has_tumor.sum() < len(has_tumor) else np.nan,
        "slice_dice": mean_of(divide(2 * hits, tumor + px)[has_tumor]),
        "volume_dice": mean_of(divide(2 * volume_hits, volume_tumor + volume_px)),
        "pixel_accuracy": 1 - (tumor + px - 2 * hits).sum() / size.sum(),
    }
    return {name: None if np.isnan(value) else round(float(value), NUM_DIGITS) for name, value in scores.items()}


def mean_of(values: Floats) -> float:
    """Return the mean, NaN of nothing."""
    return float(values.mean()) if len(values) else np.nan
