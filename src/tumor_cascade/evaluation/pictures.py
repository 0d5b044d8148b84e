"""Outcome pictures: FLAIR with the contour of the truth and of the cascade, for patients and slices worth a look."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tumor_cascade.data.preprocessing import FLAIR
from tumor_cascade.data.volumes import Volume
from tumor_cascade.evaluation.cohort import unpack_masks

# Light against grey tissue, and told apart with any colour vision.
TRUTH_COLOR, PREDICTION_COLOR = "#56B4E9", "#E69F00"
NUM_COLUMNS = 4


@dataclass(frozen=True)
class Choice:
    """A slice to show, and what it shows."""

    patient_id: str
    slice_index: int
    title: str


@dataclass(frozen=True)
class Picture:
    """A slice with its contours: FLAIR uint8 `(H, W)`, masks bool `(H, W)`."""

    title: str
    image: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    prediction: NDArray[np.bool_]


def choose_patients(patients: pd.DataFrame, slices: pd.DataFrame) -> list[Choice]:
    """Return the best, the median and the worst patient by the cascade's volume Dice, each at its largest tumor slice.

    With fewer than three patients with tumor, as many as there are.
    """
    ranked = patients["cascade_volume_dice"].dropna().sort_values(ascending=False, kind="stable")
    places = {0: "Best", (len(ranked) - 1) // 2: "Median", len(ranked) - 1: "Worst"} if len(ranked) else {}
    if len(ranked) < 3:
        places = dict(enumerate(("Best", "Worst")[: len(ranked)]))
    choices = []
    for place, name in places.items():
        patient = str(ranked.index[place])
        of_patient = slices[slices["patient_id"] == patient]
        row = of_patient.iloc[int(of_patient["tumor_px"].to_numpy().argmax())]
        title = f"{name}: {patient}\nslice {row['slice_number']}\nvolume Dice {ranked.iloc[place]:.3f}"
        choices.append(Choice(patient, int(row["slice_index"]), title))
    return choices


def choose_examples(slices: pd.DataFrame, num_examples: int) -> list[Choice]:
    """Return slices of each outcome of the decision in turn, of different patients where possible.

    Missed tumors from the largest on, false alarms from the largest false mask on, found tumors from the median slice
    Dice outwards.
    """
    has_tumor, is_positive = slices["has_tumor"], slices["is_positive"]
    found = slices[has_tumor & is_positive]
    distance = (found["cascade_slice_dice"] - found["cascade_slice_dice"].median()).abs()
    kinds = {
        "Missed": slices[has_tumor & ~is_positive].sort_values("tumor_px", ascending=False, kind="stable"),
        "False alarm": slices[~has_tumor & is_positive].sort_values(
            ["cascade_px", "probability"], ascending=False, kind="stable"
        ),
        "Found": found.loc[distance.sort_values(kind="stable").index],
    }
    choices = []
    for name, ranked in kinds.items():
        is_repeated = ranked["patient_id"].duplicated()
        rows = pd.concat([ranked[~is_repeated], ranked[is_repeated]]).head(num_examples)
        for turn, row in enumerate(rows.to_dict("records")):
            facts = {
                "Missed": f"{row['tumor_px']:,} px of tumor",
                "False alarm": f"{row['cascade_px']:,} px marked",
                "Found": f"Dice {row['cascade_slice_dice']:.2f}",
            }
            where = f"{row['patient_id']}, slice {row['slice_number']}"
            title = f"{name}, p = {row['probability']:.2f}, {facts[name]}\n{where}"
            choices.append((turn, Choice(row["patient_id"], row["slice_index"], title)))
    return [choice for _, choice in sorted(choices, key=lambda pair: pair[0])[:num_examples]]


def read_pictures(
    choices: Sequence[Choice], packed_masks: dict[str, bytes], load_volume: Callable[[str], Volume]
) -> list[Picture]:
    """Return the chosen slices with their contours, reading each patient's volume once."""
    pictures: dict[Choice, Picture] = {}
    for patient in sorted({choice.patient_id for choice in choices}):
        volume = load_volume(patient)
        assert volume.masks is not None
        predicted = unpack_masks(packed_masks[patient], volume.masks.shape)
        for choice in choices:
            if choice.patient_id == patient:
                at = choice.slice_index
                truth = volume.masks[at].astype(bool)
                pictures[choice] = Picture(choice.title, volume.images[at, FLAIR], truth, predicted[at])
    return [pictures[choice] for choice in choices]


def plot_outcomes(pictures: Sequence[Picture]) -> Figure:
    """Return a row per picture: FLAIR, FLAIR with the truth, FLAIR with the prediction."""
    figure = Figure(figsize=(8, 2.75 * max(1, len(pictures))), layout="constrained")
    grid = figure.subplots(max(1, len(pictures)), 3, squeeze=False)
    for axes, name in zip(grid[0], ("FLAIR", "Truth", "Cascade"), strict=True):
        axes.set_title(name, fontsize=11)
    for row, picture in zip(grid, pictures, strict=False):
        for axes in row:
            show_image(axes, picture.image)
        row[0].set_ylabel(picture.title, fontsize=9)
        outline(row[1], picture.truth, TRUTH_COLOR)
        outline(row[2], picture.prediction, PREDICTION_COLOR)
    return figure


def plot_examples(pictures: Sequence[Picture]) -> Figure:
    """Return a grid of pictures, each with both contours."""
    num_rows = max(1, -(-len(pictures) // NUM_COLUMNS))
    figure = Figure(figsize=(10, 2.9 * num_rows), layout="constrained")
    grid = figure.subplots(num_rows, NUM_COLUMNS, squeeze=False).ravel()
    for axes in grid[len(pictures) :]:
        axes.set_axis_off()
    for axes, picture in zip(grid, pictures, strict=False):
        show_image(axes, picture.image)
        outline(axes, picture.truth, TRUTH_COLOR)
        outline(axes, picture.prediction, PREDICTION_COLOR)
        axes.set_title(picture.title, fontsize=7)
    return figure


def show_image(axes: Axes, image: NDArray[np.uint8]) -> None:
    """Show a slice in grey levels up to its 99.5th percentile, so that single bright pixels do not darken it."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=max(1.0, float(np.percentile(image, 99.5))))
    axes.set(xticks=[], yticks=[])


def outline(axes: Axes, mask: NDArray[np.bool_], color: str) -> None:
    """Draw a mask's contour, if it has one."""
    if mask.any():
        axes.contour(mask, levels=[0.5], colors=[color], linewidths=1.3)
