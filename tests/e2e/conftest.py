"""One run of the whole pipeline on the `smoke` preset, shared by the tests of what it leaves."""

import pytest

from workplaces import Workplace, make_workplace


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A repository in which `dvc repro` has run all stages of `smoke` and dvc.lock is committed."""
    workplace = make_workplace(tmp_path_factory.mktemp("smoke"), "smoke")
    output = workplace.run("dvc", "repro")
    assert workplace.find_runs(output) == [
        "ingest_data",
        "validate_data",
        "split_data",
        "train_classifier@0",
        "train_segmenter@0",
        "assemble_cascade",
        "evaluate_cascade",
    ]
    workplace.run("git", "add", "dvc.lock")
    workplace.run("git", "commit", "--quiet", "--message", "A run")
    return workplace
