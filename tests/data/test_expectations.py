"""The validation rules: each fails on its own violation, and on no other."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from manifests import make_manifest
from tumor_cascade.data.expectations import MAX_LISTED_ROWS, Expectations, Outcome
from tumor_cascade.data.validation_frames import FRAME_KEYS
from tumor_cascade.data.validation_rules import RULES
from tumor_cascade.params import ValidateDataParams

Plant = Callable[[pd.DataFrame], pd.DataFrame]
FIRST = "AA_0000"


# The clean manifest keeps these.
PARAMS = ValidateDataParams(
    positive_slice_share=[0.2, 0.5],
    tumor_pixel_share=[0.003, 0.03],
    min_positive_slices=3,
    max_mask_background_share=0.2,
    max_corner_mean=20.0,
    max_blank_slice_share=0.1,
    max_missing_sequence_share=0.25,
    max_sequence_correlation=0.97,
    max_institution_drift=2.5,
)


@functools.cache
def make_expectations() -> Expectations:
    """Return the suites, made once: that takes as long as running them."""
    return Expectations(PARAMS)


def judge(manifest: pd.DataFrame) -> dict[str, Outcome]:
    """Return the outcome of each rule by name."""
    outcomes, _ = make_expectations().check_manifest(manifest)
    return {outcome.rule.name: outcome for outcome in outcomes}


def list_failed(outcomes: dict[str, Outcome]) -> list[str]:
    """Return the names of the rules that are broken."""
    return [name for name, outcome in outcomes.items() if outcome.status == "failed"]


def set_values(manifest: pd.DataFrame, rows: "pd.Series[bool]", values: dict[str, Any]) -> pd.DataFrame:
    """Change some columns of some rows in place, keeping their types."""
    for column, value in values.items():
        manifest.loc[rows, column] = value
    return manifest


def on_slice(name: str, number: int, /, **values: Any) -> Plant:
    """Return a change of some columns of one slice."""

    def plant(manifest: pd.DataFrame) -> pd.DataFrame:
        row = (manifest["patient_id"] == name) & (manifest["slice_number"] == number)
        assert row.sum() == 1
        return set_values(manifest, row, values)

    return plant


def on_patient(name: str, /, **values: Any) -> Plant:
    """Return a change of some columns of all slices of one patient."""

    def plant(manifest: pd.DataFrame) -> pd.DataFrame:
        return set_values(manifest, manifest["patient_id"] == name, values)

    return plant


def on_all(**values: Any) -> Plant:
    """Return a change of some columns of all slices, by value or by a function of the manifest."""
    return lambda manifest: manifest.assign(**values)


def set_tumor(patient_id: str, slice_numbers: list[int]) -> Plant:
    """Return a change of which slices of a patient show tumor: 50 pixels each."""

    def plant(manifest: pd.DataFrame) -> pd.DataFrame:
        rows = manifest["patient_id"] == patient_id
        has_tumor = rows & manifest["slice_number"].isin(slice_numbers)
        set_values(manifest, rows, {"has_tumor": False, "tumor_area_px": 0})
        return set_values(manifest, has_tumor, {"has_tumor": True, "tumor_area_px": 50, "tumor_mean_flair": 150.0})

    return plant


def copy_last_slice(manifest: pd.DataFrame) -> pd.DataFrame:
    """Append another slice 10 to the last patient, with pixels of its own."""
    extra = manifest.iloc[[-1]].assign(slice_index=10, image_sha256="a" * 64, mask_sha256="b" * 64)
    return pd.concat([manifest, extra.astype(manifest.dtypes)], ignore_index=True)


def copy_image(target: tuple[str, int]) -> Plant:
    """Return a change that gives a slice the image of slice 2 of the first patient."""

    def plant(manifest: pd.DataFrame) -> pd.DataFrame:
        source = (manifest["patient_id"] == FIRST) & (manifest["slice_number"] == 2)
        return on_slice(*target, image_sha256=manifest.loc[source, "image_sha256"].iloc[0])(manifest)

    return plant


def drop_masks(manifest: pd.DataFrame) -> pd.DataFrame:
    """Take the masks of the first patient away but leave an area behind (the other five keep the shares in bounds)."""
    values = {"has_mask": False, "has_tumor": False, "tumor_area_px": 0, "mask_sha256": ""}
    manifest = on_patient(FIRST, **values)(manifest)
    return on_slice(FIRST, 4, has_tumor=True, tumor_area_px=7)(manifest)


# The clean manifest: 6 patients (AA_0000, BB_0001, AA_0002, ...) of 10 slices 64 x 64; slices 4 to 6 show tumor.
VIOLATIONS: dict[str, Plant] = {
    "column_types": on_all(tumor_area_px=lambda m: m["tumor_area_px"].astype("float64")),
    "has_slices": lambda m: m.iloc[:0],
    "patient_named": on_patient(FIRST, patient_id=None),
    "institution_named": on_patient(FIRST, institution=""),
    "one_institution_per_patient": on_slice(FIRST, 2, institution="BB"),
    "slice_numbered_once": copy_last_slice,
    "slice_index_in_order": on_slice(FIRST, 10, slice_index=12),
    "slice_numbers_contiguous": on_slice(FIRST, 10, slice_number=12),
    "slice_numbers_from_one": on_patient(FIRST, slice_number=np.arange(2, 12, dtype=np.int32)),
    "one_shape_per_patient": on_slice(FIRST, 2, height_px=65),
    "image_hash_format": on_slice(FIRST, 2, image_sha256="G" * 64),
    "mask_hash_format": on_slice(FIRST, 2, mask_sha256=""),
    "perceptual_hash_format": on_slice(FIRST, 2, perceptual_hash="0" * 15),
    "tumor_flag_follows_area": on_slice(FIRST, 7, has_tumor=True),
    "tumor_fits_image": on_slice(FIRST, 4, tumor_area_px=64 * 64 + 1),
    "no_tumor_without_mask": drop_masks,
    "image_in_one_patient": copy_image(("BB_0001", 7)),
    "image_once_in_patient": copy_image((FIRST, 7)),
    "patient_ids_known": on_all(has_patient_ids=False),
    "one_positive_run": set_tumor(FIRST, [3, 4, 6]),
    "enough_positive_slices": set_tumor(FIRST, [4, 5]),
    "has_tumor_free_slice": set_tumor(FIRST, list(range(1, 11))),
    # 6 patients of 6 tumor slices in 10 of 64 x 64: 0.6 of slices, 6 * 50 / 40960 = 0.7 % of pixels
    "positive_slice_share": lambda m: [set_tumor(p, [3, 4, 5, 6, 7, 8])(m) for p in m["patient_id"].unique()][-1],
    # four times the area: 0.9 % becomes 3.7 % of pixels
    "tumor_pixel_share": on_all(tumor_area_px=lambda m: m["tumor_area_px"] * 4),
    "mask_on_head": on_slice(FIRST, 4, mask_background_share=0.21),
    "mask_off_border": on_slice(FIRST, 4, has_border_mask=True),
    "tumor_bright_in_flair": on_slice(FIRST, 4, tumor_mean_flair=79.0),
    "dark_background": on_slice(FIRST, 4, corner_mean=20.5),
    # 10 of 60 slices nearly blank: 17 %, over the bound of 10 %
    "few_blank_slices": on_patient(FIRST, foreground_share=0.009),
    # 2 of 6 patients: 33 %, over the bound of 25 %
    "few_missing_sequences": lambda m: on_patient("BB_0001", is_post_real=False)(
        on_patient(FIRST, is_pre_real=False, pre_flair_correlation=1.0)(m)
    ),
    "sequences_differ": on_patient(FIRST, post_flair_correlation=0.98),
    # BB, half of the patients, five times as bright: AA is at 1/3 of the mean of the cohort, below 1 / 2.5
    "institutions_alike": on_all(
        flair_mean=lambda m: m["flair_mean"].where(m["institution"] == "AA", 5 * m["flair_mean"])
    ),
}


def test_rules__every_one_has_a_violation() -> None:
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    assert set(names) == set(VIOLATIONS)


def test_check_manifest__clean() -> None:
    outcomes = judge(make_manifest())
    assert list(outcomes) == [rule.name for rule in RULES]
    assert list_failed(outcomes) == []
    # every slice has a mask, so the rule about slices without has nothing to look at
    assert [name for name, o in outcomes.items() if o.status == "not_applicable"] == ["no_tumor_without_mask"]


@pytest.mark.parametrize("name", VIOLATIONS)
def test_check_manifest__planted_violation(name: str) -> None:
    outcomes = judge(VIOLATIONS[name](make_manifest()))
    assert list_failed(outcomes) == [name]
    assert outcomes[name].num_offending >= 1
    assert set(FRAME_KEYS[outcomes[name].rule.frame]) <= set(outcomes[name].offending_rows[0])


def test_check_manifest__several_findings_are_named_with_values() -> None:
    manifest = make_manifest()
    for name in ("dark_background", "patient_ids_known"):
        manifest = VIOLATIONS[name](manifest)
    # a missing sequence in one patient of six: 17 %, below the bound of 25 %; and a stand-in is no suspicious copy
    manifest = on_patient(FIRST, is_pre_real=False, pre_flair_correlation=1.0)(manifest)
    outcomes = judge(manifest)
    assert list_failed(outcomes) == ["patient_ids_known", "dark_background"]

    bright = outcomes["dark_background"]
    assert bright.offending_rows == [{"patient_id": FIRST, "slice_number": 4, "corner_mean": 20.5}]
    assert (bright.num_checked, bright.num_offending) == (60, 1)
    assert bright.observed_range == (0.0, 20.5)
    assert bright.bounds == {"max_value": 20.0}

    assert outcomes["patient_ids_known"].num_offending == 60
    assert len(outcomes["patient_ids_known"].offending_rows) == MAX_LISTED_ROWS

    missing = outcomes["few_missing_sequences"]
    assert missing.status == "passed"
    assert missing.offending_rows == [{"patient_id": FIRST, "num_missing_sequences": 1}]


def test_check_manifest__blank_slices_may_be_equal() -> None:
    manifest = make_manifest(20)
    manifest.loc[manifest["slice_number"] == 1, ["image_sha256", "foreground_share"]] = ["0" * 64, 0.0]
    assert list_failed(judge(manifest)) == []  # 10 % of the slices: at the bound


def test_check_manifest__unlabelled() -> None:
    outcomes, facts = make_expectations().check_manifest(make_manifest(has_mask=False))
    status = {outcome.rule.name: outcome.status for outcome in outcomes}
    assert "failed" not in status.values()
    assert [name for name, value in status.items() if value == "not_applicable"] == [
        "mask_hash_format",
        "one_positive_run",
        "enough_positive_slices",
        "has_tumor_free_slice",
        "positive_slice_share",
        "tumor_pixel_share",
        "mask_on_head",
        "mask_off_border",
        "tumor_bright_in_flair",
    ]
    assert facts == {"num_patients": 6, "num_slices": 60, "positive_slice_share": None, "tumor_pixel_share": None}
