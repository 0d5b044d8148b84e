from pathlib import Path

import pytest

from trainings import TrainedFolds, train_folds


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedFolds:
    """Return small networks of two folds, trained once for all tests; not to be written to."""
    folder: Path = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:  # ends here: a test that comes later has checkpoints of its own
        patch.setenv("TUMOR_CASCADE_NUM_THREADS", "1")
        patch.setenv("TUMOR_CASCADE_DEVICE", "cpu")
        patch.setenv("TUMOR_CASCADE_CHECKPOINTS", str(folder / "checkpoints"))
        return train_folds(folder)
