"""Leaks planted on purpose, on copies of the data in a temporary folder, and what the checks of `split_data` say."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from tumor_cascade.data.canary import Canary, run_canary
from tumor_cascade.data.copied_patients import ALTERATIONS, COPY_SUFFIX, deal_copies, write_cohort_with_copies
from tumor_cascade.data.duplicates import DuplicatePair
from tumor_cascade.data.split import TEST_FOLD
from tumor_cascade.data.stratification import Protocol, split_slices
from tumor_cascade.data.thumbnails import Thumbnails, read_thumbnails
from tumor_cascade.errors import DataError
from tumor_cascade.params import SplitDataParams
from tumor_cascade.stages.split_data import check_leaks, find_leaks

PROTOCOLS: tuple[Protocol, ...] = ("patient_level", "slice_level")
PLANTED = "planted"
SCAN, CANARY = "near-duplicate scan", "permuted-label canary"
NUM_TRIED = 10  # patients, spread over the cohort

# Which slices of a patient, by their index in the volume, are moved to another fold.
Choice = Callable[["pd.Series[int]"], "pd.Series[bool]"]
MOVES: dict[str, Choice] = {
    "every second slice of one patient on the other side": lambda index: index % 2 == 1,
    "one slice of one patient on the other side": lambda index: index == index.max() // 2,
}


@dataclass(frozen=True)
class Trial:
    """A kind of leak, planted in several patients, and whether the check that is there for it noticed.

    Attributes:
        leak: In words.
        check: Which check has to answer.
        num_planted: How many times.
        num_found: Of these.
        answer: The first complaint of `split_data`; "" where it goes on.
    """

    leak: str
    check: str
    num_planted: int
    num_found: int
    answer: str


@dataclass(frozen=True)
class LeakSearch:
    """What the checks say about the data as they are, and about planted leaks.

    Attributes:
        pairs: Protocol -> near-duplicate slices on two sides.
        canaries: Protocol -> canaries; under `planted` those of a split by patient with one patient on both sides.
        trials: Planted leaks.
    """

    pairs: dict[str, list[DuplicatePair]]
    canaries: dict[str, list[Canary]]
    trials: list[Trial]


def search_leaks(params: SplitDataParams, slices: Path, rows: pd.DataFrame) -> LeakSearch:
    """Look for leaks under both protocols, then plant some and look again.

    Args:
        params: The section of `split_data`; its protocol is not used.
        slices: Folder of packed volumes; read only.
        rows: Manifest, sorted by patient and slice.
    """
    splits = {protocol: deal(params, rows, protocol) for protocol in PROTOCOLS}
    found = {protocol: find_leaks(params, rows, splits[protocol], slices) for protocol in PROTOCOLS}
    moves, planted = plant_moves(params, splits["patient_level"], read_thumbnails(slices, rows))
    copies = plant_copies(params, slices, rows, splits["patient_level"])
    mixed = plant_slice_split(params, found["slice_level"][1])
    return LeakSearch(
        pairs={protocol: pairs for protocol, (pairs, _) in found.items()},
        canaries={PLANTED: planted, **{protocol: canaries for protocol, (_, canaries) in found.items()}},
        trials=[*copies, *moves, mixed],
    )


def deal(params: SplitDataParams, rows: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Return the split that `split_data` makes under a protocol."""
    return split_slices(rows, protocol, seed=params.seed, test_share=params.test_share, num_folds=params.num_folds)


def choose_patients(rows: pd.DataFrame) -> list[str]:
    """Return up to ten patients, spread evenly over the sorted ids."""
    patients = sorted(rows["patient_id"].unique())
    places = np.linspace(0, len(patients) - 1, min(NUM_TRIED, len(patients))).round().astype(int)
    return [patients[place] for place in places]


def plant_copies(params: SplitDataParams, slices: Path, rows: pd.DataFrame, splits: pd.DataFrame) -> list[Trial]:
    """Put copies of patients, under other ids, on the other side of a split by patient; once per alteration."""
    trials, patients = [], choose_patients(rows)
    for name, alter in ALTERATIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            with_copies = write_cohort_with_copies(Path(folder), slices, rows, patients, alter)
            pairs, canaries = find_leaks(params, with_copies, deal_copies(splits, with_copies), Path(folder))
        found = {pair.patients[0] for pair in pairs if pair.patients[1] == pair.patients[0] + COPY_SUFFIX}
        answer = ask_split_data(params, pairs, canaries)
        trials.append(Trial(f"a patient's copy under another id, {name}", SCAN, len(patients), len(found), answer))
    return trials


def plant_moves(
    params: SplitDataParams, splits: pd.DataFrame, thumbnails: Thumbnails
) -> tuple[list[Trial], list[Canary]]:
    """Move slices of one development patient after another to the next fold, once per kind of move.

    Returns:
        The trials; and the canaries of the first patient that was cut in half.
    """
    trials, shown = [], list[Canary]()
    patients = choose_patients(splits[splits["fold"] != TEST_FOLD])
    for name, choose in MOVES.items():
        answers = []
        for patient_id in patients:
            canaries = run_canary(
                move_slices(splits, patient_id, choose, params.num_folds),
                thumbnails,
                num_permutations=params.num_canary_permutations,
                confidence=params.canary_confidence,
                seed=params.seed,
            )
            shown = shown or canaries
            answers.append(ask_split_data(params, [], canaries))
        refusals = [answer for answer in answers if answer]
        trials.append(Trial(name, CANARY, len(patients), len(refusals), (*refusals, "")[0]))
    return trials, shown


def move_slices(splits: pd.DataFrame, patient_id: str, choose: Choice, num_folds: int) -> pd.DataFrame:
    """Return the splits with the chosen slices of a development patient in the next fold."""
    own = splits["patient_id"] == patient_id
    is_moved = choose(splits.loc[own, "slice_index"]).reindex(splits.index, fill_value=False)
    return splits.assign(fold=splits["fold"].where(~is_moved, (splits["fold"] + 1) % num_folds))


def plant_slice_split(params: SplitDataParams, canaries: list[Canary]) -> Trial:
    """Declare a split of slices, whose canaries are given, to be one of patients."""
    num_found = sum(not one.is_chance for one in canaries)
    answer = ask_split_data(params, [], canaries)
    return Trial("all slices dealt one by one (counted by held-out part)", CANARY, len(canaries), num_found, answer)


def ask_split_data(params: SplitDataParams, pairs: list[DuplicatePair], canaries: list[Canary]) -> str:
    """Return the first complaint of `split_data` about a split that is declared to be by patient, or ""."""
    try:
        check_leaks(params.model_copy(update={"protocol": "patient_level"}), pairs, canaries)
    except DataError as error:
        return error.violations[0]
    return ""
