"""What the validation rules look at: tables per column, slice, patient, institution and cohort, all from the manifest.

Nothing is judged here; a frame only brings what a rule compares into one row.
"""

import pandas as pd

from tumor_cascade.data.manifest import MANIFEST_SCHEMA, NEAR_BLANK_SHARE

# The columns that name a row of each frame in reports.
FRAME_KEYS = {
    "columns": ["column"],
    "slices": ["patient_id", "slice_number"],
    "patients": ["patient_id"],
    "institutions": ["institution"],
    "cohort": ["cohort"],
}


def frame_columns(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return one row per manifest column: `column`, `dtype`, `expected_dtype`."""
    expected = MANIFEST_SCHEMA.empty_table().to_pandas().dtypes.astype(str)
    actual = manifest.dtypes.astype(str).reindex(expected.index).fillna("missing")
    return pd.DataFrame({"column": expected.index, "dtype": actual.to_numpy(), "expected_dtype": expected.to_numpy()})


def derive_frames(manifest: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the frames `slices`, `patients`, `institutions` and `cohort` of a manifest with the right columns."""
    slices = frame_slices(manifest)
    patients = frame_patients(slices)
    return {
        "slices": slices,
        "patients": patients,
        "institutions": frame_institutions(patients),
        "cohort": frame_cohort(slices),
    }


def frame_slices(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the manifest with, per slice, its place among its neighbors and the copies of its image."""
    texts = manifest.select_dtypes(include=["object", "string"]).columns
    slices = manifest.assign(**{name: manifest[name].fillna("") for name in texts})
    by_patient, by_image = slices.groupby("patient_id"), slices.groupby("image_sha256")
    slices["position"] = by_patient["slice_number"].rank(method="first").astype("int32") - 1
    slices["has_area"] = slices["tumor_area_px"] > 0
    slices["tumor_pixel_share"] = slices["tumor_area_px"] / (slices["height_px"] * slices["width_px"])
    slices["has_no_mask"] = ~slices["has_mask"]
    slices["has_content"] = slices["foreground_share"] >= NEAR_BLANK_SHARE
    slices["num_patients_with_image"] = by_image["patient_id"].transform("nunique")
    slices["num_copies_in_patient"] = slices.groupby(["patient_id", "image_sha256"])["slice_number"].transform("size")
    return slices


def frame_patients(slices: pd.DataFrame) -> pd.DataFrame:
    """Return one row per patient: its slice numbers, shapes, positive slices and sequences.

    `sequence_correlation` is the greater of the two medians of pre and post against FLAIR, stand-ins apart.
    """
    slices = slices.sort_values(["patient_id", "slice_number"])
    is_run_start = slices["has_tumor"] & ~slices.groupby("patient_id")["has_tumor"].shift(fill_value=False)
    rows = slices.assign(
        is_run_start=is_run_start,
        shape=slices["height_px"].astype(str) + "x" + slices["width_px"].astype(str),
        pre_correlation=slices["pre_flair_correlation"].where(slices["is_pre_real"]),
        post_correlation=slices["post_flair_correlation"].where(slices["is_post_real"]),
    )
    groups = rows.groupby("patient_id")
    numbers = groups["slice_number"]
    return pd.DataFrame(
        {
            "institution": groups["institution"].first(),
            "num_institutions": groups["institution"].nunique(),
            "num_shapes": groups["shape"].nunique(),
            "first_slice_number": numbers.min(),
            "num_slice_numbers": numbers.nunique(),
            "slice_number_span": numbers.max() - numbers.min() + 1,
            "has_mask": groups["has_mask"].any(),
            "num_positive_slices": groups["has_tumor"].sum(),
            "num_tumor_free_slices": groups.size() - groups["has_tumor"].sum(),
            "num_positive_runs": groups["is_run_start"].sum(),
            "num_missing_sequences": 2 - groups[["is_pre_real", "is_post_real"]].all().sum(axis=1),
            "sequence_correlation": groups[["pre_correlation", "post_correlation"]].median().max(axis=1),
            "flair_mean": groups["flair_mean"].mean(),
        }
    ).reset_index()


def frame_institutions(patients: pd.DataFrame) -> pd.DataFrame:
    """Return one row per institution: its patients and their mean FLAIR over that of the whole cohort."""
    groups = patients.groupby("institution")
    ratio = groups["flair_mean"].mean() / patients["flair_mean"].mean()
    return pd.DataFrame({"num_patients": groups.size(), "intensity_ratio": ratio}).reset_index()


def frame_cohort(slices: pd.DataFrame) -> pd.DataFrame:
    """Return one row: counts, and shares over the slices that have masks (NaN where none has)."""
    labelled = slices[slices["has_mask"]]
    num_pixels = (labelled["height_px"].astype("int64") * labelled["width_px"]).sum()
    facts = {
        "cohort": "all",
        "num_patients": slices["patient_id"].nunique(),
        "num_slices": len(slices),
        "positive_slice_share": labelled["has_tumor"].mean(),
        "tumor_pixel_share": labelled["tumor_area_px"].sum() / num_pixels if num_pixels else float("nan"),
    }
    return pd.DataFrame([facts])
