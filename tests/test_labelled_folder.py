from pathlib import Path

import pytest

from archives import make_archive, make_patient_id
from tumor_cascade.configuration import PRESETS_DIR
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.errors import DataError
from tumor_cascade.labelled_folder import LabelledFolder, find_patients, ingested_folder
from tumor_cascade.params import IngestDataParams, read_section


def test_ingested_folder__patients_below_lone_folders_are_there_for_the_while(tmp_path: Path) -> None:
    params = read_section(PRESETS_DIR / "phantom.yaml", "ingest_data")
    assert isinstance(params, IngestDataParams)
    make_archive(tmp_path / "raw" / "lgg" / "patients", num_patients=2)
    (tmp_path / "work").mkdir()
    with ingested_folder(LabelledFolder(tmp_path / "raw", "kaggle", params), tmp_path / "work") as (slices, manifest):
        assert slices.is_relative_to(tmp_path / "work")
        expected = [make_patient_id(0), make_patient_id(1)]
        assert sorted(path.stem for path in slices.glob("*.npy")) == expected
        assert sorted(read_manifest(manifest)["patient_id"].unique()) == expected
    assert not list((tmp_path / "work").iterdir())


def test_find_patients__below_folders_that_hold_nothing_else(tmp_path: Path) -> None:
    raw = make_archive(tmp_path / "download" / "lgg" / "patients", num_patients=2)
    layout = find_patients(raw)
    for folder in (tmp_path, tmp_path / "download", raw):
        assert find_patients(folder) == layout
    for stray in (".DS_Store", ".git", "README.md", "__MACOSX"):
        (tmp_path / stray).touch()
    assert find_patients(tmp_path) == layout
    (tmp_path / "more").mkdir()
    assert find_patients(tmp_path) == tmp_path  # which of the two it is, nobody can tell


def test_find_patients__the_only_patient_is_no_such_folder(tmp_path: Path) -> None:
    raw = make_archive(tmp_path / "raw", num_patients=1)
    [patient] = [path for path in raw.rglob(make_patient_id(0)) if path.is_dir()]
    assert find_patients(patient.parent) == patient.parent
    with pytest.raises(DataError, match="holds slices itself; name the folder that patients' folders lie in"):
        find_patients(patient)
