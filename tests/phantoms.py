"""A few generated patients, ingested, and the params to split them with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.params import IngestDataParams, PhantomParams, SplitDataParams
from tumor_cascade.stages.ingest_data import ingest_data

SPLIT = {
    "protocol": "patient_level",
    "seed": 1,
    "test_share": 0.25,
    "num_folds": 3,
    "max_duplicate_hash_distance": 4,
    "min_duplicate_correlation": 0.985,
    "num_canary_permutations": 1000,
    "canary_confidence": 0.9999,
}


@dataclass(frozen=True)
class Cohort:
    """Outputs of `ingest_data`; not to be written to."""

    slices: Path
    manifest: Path

    @property
    def rows(self) -> pd.DataFrame:
        """The manifest."""
        return read_manifest(self.manifest)


def ingest_phantom(folder: Path, num_patients: int) -> Cohort:
    """Generate patients of about ten slices of 48 x 48."""
    phantom = PhantomParams(num_patients=num_patients, num_slices=10, image_size_px=48, seed=20261123)
    params = IngestDataParams(source="phantom", max_side_px=256, phantom=phantom)
    cohort = Cohort(folder / "slices", folder / "manifest.parquet")
    ingest_data(params, raw=folder / "raw", out_slices=cohort.slices, out_manifest=cohort.manifest)
    return cohort


def make_split_params(**changes: Any) -> SplitDataParams:
    """Return a section of `split_data` fit for few patients."""
    return SplitDataParams.model_validate({**SPLIT, **changes})
