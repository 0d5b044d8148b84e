"""Stage `ingest_data`: any raw data set to packed volumes and a manifest, all or nothing, one patient in memory."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from tumor_cascade.content import describe_content
from tumor_cascade.data.facts import describe_patient
from tumor_cascade.data.images import FolderSource
from tumor_cascade.data.kaggle import KaggleSource
from tumor_cascade.data.manifest import write_manifest
from tumor_cascade.data.phantom import PhantomSource
from tumor_cascade.data.source import Source, SourcePatient
from tumor_cascade.data.volumes import Volume, write_volume
from tumor_cascade.params import IngestDataParams
from tumor_cascade.storage import atomic_dir, atomic_file, write_json


def ingest_data(params: IngestDataParams, *, raw: Path, out_slices: Path, out_manifest: Path) -> None:
    """Write the packed volumes and the manifest of a raw data set; on any violation both outputs stay as they were.

    Args:
        params: The stage's section.
        raw: The data set, a folder, a zip or a link to one; not read for the phantom.
        out_slices: Folder for one array file per patient and `content.json`.
        out_manifest: Parquet file, one row per slice.

    Raises:
        DataError: With every violation in the whole data set.
    """
    source = open_source(params, raw)
    rows: list[dict[str, Any]] = []
    with atomic_file(out_manifest) as new_manifest, atomic_dir(out_slices) as new_slices:
        patients = tqdm(source.read_patients(), "ingest_data", source.count_patients(), disable=None, unit=" patients")
        for patient in patients:
            rows += describe_patient(patient, has_patient_ids=source.has_patient_ids)
            write_volume(new_slices, pack_volume(patient))
        write_manifest(pd.DataFrame(rows), new_manifest)
        # The raw files are not read a second time: the manifest holds the SHA-256 of every array made from them.
        inputs = {} if params.source == "phantom" else {"manifest": new_manifest}
        content = describe_content("ingest_data", params.model_dump(mode="json"), inputs)
        write_json(new_slices / "content.json", content)


def open_source(params: IngestDataParams, raw: Path) -> Source:
    """Return the data set that the params name."""
    if params.source == "phantom":
        return PhantomSource(params.phantom)
    if params.source == "images":
        return FolderSource(raw, params.max_side_px)
    return KaggleSource(raw, params.max_side_px)


def pack_volume(patient: SourcePatient) -> Volume:
    """Return a patient's slices as one volume."""
    masks = [one.mask for one in patient.slices if one.mask is not None]
    images = np.stack([one.image for one in patient.slices])
    return Volume(patient.patient_id, images, np.stack(masks) if masks else None)
