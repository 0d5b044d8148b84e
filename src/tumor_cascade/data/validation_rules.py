"""The rules that a manifest has to keep, each one Great Expectations expectation: reports and tests come from here.

What cannot faithfully become an array is refused by `ingest_data`; none of its rules stands here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tumor_cascade.data.manifest import NEAR_BLANK_SHARE
from tumor_cascade.params import ValidateDataParams

Severity = Literal["critical", "warning"]
Options = dict[str, Any]

HEX_64 = "^[0-9a-f]{64}$"


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: Unique; what reports and tests call it.
        severity: `critical` stops the pipeline, `warning` is reported.
        frame: The table of `validation_frames` that it looks at.
        expectation: Class name in `great_expectations.expectations`.
        options: Its arguments, from the params.
        statement: The rule in words.
        remedy: What to do about a violation.
        only_where: Boolean column; rows where it is False are not looked at.
    """

    name: str
    severity: Severity
    frame: str
    expectation: str
    options: Callable[[ValidateDataParams], Options]
    statement: str
    remedy: str
    only_where: str | None = None


def _fixed(**options: Any) -> Callable[[ValidateDataParams], Options]:
    return lambda _: options


_BETWEEN, _IN_SET, _REGEX = (
    "ExpectColumnValuesToBeBetween",
    "ExpectColumnValuesToBeInSet",
    "ExpectColumnValuesToMatchRegex",
)
_EQUAL, _AT_LEAST = "ExpectColumnPairValuesToBeEqual", "ExpectColumnPairValuesAToBeGreaterThanB"
_INGEST_AGAIN = "The manifest was changed or damaged: run ingest_data again."
_CHECK_COHORT = "Look at the cohort; if it is meant to be so, move the bounds in params.yaml: validate_data."
_LOOK = "Look at the slices named."

COLUMN_RULE = Rule(
    "column_types",
    "critical",
    "columns",
    _EQUAL,
    _fixed(column_A="dtype", column_B="expected_dtype"),
    "every column of the manifest is there, of its type, without gaps in whole numbers and flags",
    _INGEST_AGAIN,
)

# In the order of the report. `COLUMN_RULE` goes first: without its columns no other rule can be looked at.
RULES = (
    COLUMN_RULE,
    Rule(
        "has_slices",
        "critical",
        "cohort",
        _BETWEEN,
        _fixed(column="num_slices", min_value=1),
        "the manifest names at least one slice",
        "Check the raw data folder and run ingest_data again.",
    ),
    Rule(
        "patient_named",
        "critical",
        "slices",
        _REGEX,
        _fixed(column="patient_id", regex="."),
        "every slice names its patient",
        _INGEST_AGAIN,
    ),
    Rule(
        "institution_named",
        "critical",
        "slices",
        _REGEX,
        _fixed(column="institution", regex="."),
        "every slice names its institution (`unknown` where the source does not say)",
        _INGEST_AGAIN,
    ),
    Rule(
        "one_institution_per_patient",
        "critical",
        "patients",
        _BETWEEN,
        _fixed(column="num_institutions", min_value=1, max_value=1),
        "all slices of a patient come from one institution",
        "Two patients may share an id: give each its own in the raw data.",
    ),
    Rule(
        "slice_numbered_once",
        "critical",
        "slices",
        "ExpectCompoundColumnsToBeUnique",
        _fixed(column_list=["patient_id", "slice_number"]),
        "no two slices of a patient have one number",
        "Remove or renumber one of them in the raw data.",
    ),
    Rule(
        "slice_index_in_order",
        "critical",
        "slices",
        _EQUAL,
        _fixed(column_A="slice_index", column_B="position"),
        "a slice's index is its place in the order of slice numbers, from 0",
        _INGEST_AGAIN,
    ),
    Rule(
        "slice_numbers_contiguous",
        "critical",
        "patients",
        _EQUAL,
        _fixed(column_A="num_slice_numbers", column_B="slice_number_span"),
        "the slice numbers of a patient leave no gap",
        "Bring the missing slices, or remove the patient.",
    ),
    Rule(
        "slice_numbers_from_one",
        "warning",
        "patients",
        _BETWEEN,
        _fixed(column="first_slice_number", min_value=1, max_value=1),
        "the slice numbers of a patient begin at 1",
        "The first slices may be missing: compare with the source.",
    ),
    Rule(
        "one_shape_per_patient",
        "critical",
        "patients",
        _BETWEEN,
        _fixed(column="num_shapes", min_value=1, max_value=1),
        "all slices of a patient have one height and width",
        "Export the patient again at one size, or remove it.",
    ),
    Rule(
        "image_hash_format",
        "critical",
        "slices",
        _REGEX,
        _fixed(column="image_sha256", regex=HEX_64),
        "image_sha256 is 64 hex digits",
        _INGEST_AGAIN,
    ),
    Rule(
        "mask_hash_format",
        "critical",
        "slices",
        _REGEX,
        _fixed(column="mask_sha256", regex=HEX_64),
        "mask_sha256 of a slice with mask is 64 hex digits",
        _INGEST_AGAIN,
        only_where="has_mask",
    ),
    Rule(
        "perceptual_hash_format",
        "critical",
        "slices",
        _REGEX,
        _fixed(column="perceptual_hash", regex="^[0-9a-f]{16}$"),
        "perceptual_hash is 16 hex digits",
        _INGEST_AGAIN,
    ),
    Rule(
        "tumor_flag_follows_area",
        "critical",
        "slices",
        _EQUAL,
        _fixed(column_A="has_tumor", column_B="has_area"),
        "has_tumor says whether tumor_area_px is above 0",
        _INGEST_AGAIN,
    ),
    Rule(
        "tumor_fits_image",
        "critical",
        "slices",
        _BETWEEN,
        _fixed(column="tumor_pixel_share", min_value=0, max_value=1),
        "the tumor area is between 0 and the number of pixels",
        _INGEST_AGAIN,
    ),
    Rule(
        "no_tumor_without_mask",
        "critical",
        "slices",
        _BETWEEN,
        _fixed(column="tumor_area_px", min_value=0, max_value=0),
        "a slice without mask has no tumor area",
        _INGEST_AGAIN,
        only_where="has_no_mask",
    ),
    Rule(
        "image_in_one_patient",
        "critical",
        "slices",
        _BETWEEN,
        _fixed(column="num_patients_with_image", max_value=1),
        "no image, nearly blank ones apart, stands in two patients",
        "One person may stand under two ids: remove one of the two from the raw data.",
        only_where="has_content",
    ),
    Rule(
        "image_once_in_patient",
        "warning",
        "slices",
        _BETWEEN,
        _fixed(column="num_copies_in_patient", max_value=1),
        "no image, nearly blank ones apart, stands twice in a patient",
        "A slice may have been exported twice: compare with the source.",
        only_where="has_content",
    ),
    Rule(
        "patient_ids_known",
        "warning",
        "slices",
        _IN_SET,
        _fixed(column="has_patient_ids", value_set=[True]),
        "patient ids come from the source",
        "Without them no honest split exists and nothing made from the data can be promoted.",
    ),
    Rule(
        "one_positive_run",
        "warning",
        "patients",
        _BETWEEN,
        _fixed(column="num_positive_runs", max_value=1),
        "the tumor slices of a patient are one run without a gap",
        "Look for a forgotten mask in the gap.",
        only_where="has_mask",
    ),
    Rule(
        "enough_positive_slices",
        "warning",
        "patients",
        _BETWEEN,
        lambda p: {"column": "num_positive_slices", "min_value": p.min_positive_slices},
        "a patient has at least min_positive_slices tumor slices",
        "Look for missing masks.",
        only_where="has_mask",
    ),
    Rule(
        "has_tumor_free_slice",
        "warning",
        "patients",
        _BETWEEN,
        _fixed(column="num_tumor_free_slices", min_value=1),
        "a patient has at least one tumor-free slice",
        "The volume may be cut to the tumor: compare with the source.",
        only_where="has_mask",
    ),
    Rule(
        "positive_slice_share",
        "warning",
        "cohort",
        _BETWEEN,
        lambda p: {"column": "positive_slice_share", **_bounds(p.positive_slice_share)},
        "the share of slices with tumor is within positive_slice_share",
        _CHECK_COHORT,
    ),
    Rule(
        "tumor_pixel_share",
        "warning",
        "cohort",
        _BETWEEN,
        lambda p: {"column": "tumor_pixel_share", **_bounds(p.tumor_pixel_share)},
        "the share of tumor pixels is within tumor_pixel_share",
        _CHECK_COHORT,
    ),
    Rule(
        "mask_on_head",
        "warning",
        "slices",
        _BETWEEN,
        lambda p: {"column": "mask_background_share", "max_value": p.max_mask_background_share},
        "of a slice's mask pixels at most max_mask_background_share lie on background",
        _LOOK + " Mask and image may be shifted or swapped.",
        only_where="has_tumor",
    ),
    Rule(
        "mask_off_border",
        "warning",
        "slices",
        _IN_SET,
        _fixed(column="has_border_mask", value_set=[False]),
        "no mask touches the border of its image",
        _LOOK + " Mask and image may be shifted.",
        only_where="has_mask",
    ),
    Rule(
        "tumor_bright_in_flair",
        "warning",
        "slices",
        _AT_LEAST,
        _fixed(
            column_A="tumor_mean_flair",
            column_B="tissue_mean_flair",
            or_equal=True,
            ignore_row_if="either_value_is_missing",
        ),
        "tumor is no darker in FLAIR than the tissue around it",
        _LOOK + " Sequences may stand in another order.",
        only_where="has_tumor",
    ),
    Rule(
        "dark_background",
        "warning",
        "slices",
        _BETWEEN,
        lambda p: {"column": "corner_mean", "max_value": p.max_corner_mean},
        "the corners of a slice are no brighter than max_corner_mean",
        _LOOK + " Background is expected to be near 0.",
    ),
    Rule(
        "few_blank_slices",
        "warning",
        "slices",
        _BETWEEN,
        lambda p: {"column": "foreground_share", "min_value": NEAR_BLANK_SHARE, "mostly": 1 - p.max_blank_slice_share},
        "at most max_blank_slice_share of the slices are nearly blank (FLAIR above 10 on less than 1 % of pixels)",
        _CHECK_COHORT,
    ),
    Rule(
        "few_missing_sequences",
        "warning",
        "patients",
        _BETWEEN,
        lambda p: {"column": "num_missing_sequences", "max_value": 0, "mostly": 1 - p.max_missing_sequence_share},
        "at most max_missing_sequence_share of the patients lack a sequence",
        _CHECK_COHORT,
    ),
    Rule(
        "sequences_differ",
        "warning",
        "patients",
        _BETWEEN,
        lambda p: {"column": "sequence_correlation", "max_value": p.max_sequence_correlation},
        "pre and post, where real, correlate with FLAIR by at most max_sequence_correlation (median of a patient)",
        "A sequence may be a scaled copy of another: compare with the source.",
    ),
    Rule(
        "institutions_alike",
        "warning",
        "institutions",
        _BETWEEN,
        lambda p: {
            "column": "intensity_ratio",
            "min_value": 1 / p.max_institution_drift,
            "max_value": p.max_institution_drift,
        },
        "the mean FLAIR of an institution is within a factor max_institution_drift of the cohort's",
        "Expect weaker results there; use a normalization that does not depend on the scanner's scale.",
    ),
)


def _bounds(pair: list[float]) -> Options:
    return {"min_value": pair[0], "max_value": pair[1]}
