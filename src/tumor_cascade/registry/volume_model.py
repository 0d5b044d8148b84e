"""A promoted version as batch engines ask it: a row is a whole volume, so no engine can tear a patient's slices apart.

Engines cut their tables into batches wherever it suits them. The registered model has a row per slice, which is right
for a server that gets whole requests; under an engine a cut through a patient would silently take away the context of
some slices. So the rows are grouped first, and what answers them is this model around the same files.
"""

import logging
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel, PythonModelContext, save_model
from mlflow.types.schema import Array, ColSpec, DataType, Object, Property, Schema

from tumor_cascade import __version__
from tumor_cascade.product import load_cascade
from tumor_cascade.registry.health import CASCADE_DIR
from tumor_cascade.registry.served_version import check_version, checked_version, read_version_number
from tumor_cascade.serving.answers import KEYS, Identity, describe_row
from tumor_cascade.serving.engine import Engine
from tumor_cascade.serving.limits import Limits
from tumor_cascade.serving.rows import RequestError, Row
from tumor_cascade.settings import choose_device

SHIM = '''"""Loads these files with the installed package `tumor_cascade`."""

from mlflow.models import set_model

from tumor_cascade.registry.volume_model import VolumeModel

set_model(VolumeModel())
'''
# A job has no caller who waits: bounds are there for memory alone.
LIMITS = Limits(max_rows=2048, max_side_px=4096, max_request_px=4 * 256**3, timeout_s=24 * 3600.0)

logger = logging.getLogger(__name__)


class VolumeModel(PythonModel):
    """A cascade behind MLflow's interface, asked volume by volume."""

    def load_context(self, context: PythonModelContext) -> None:
        """Check every file and load the cascade, once per process.

        Raises:
            DataError: A file is not what was registered.
        """
        self.engine = open_engine(context.artifacts["version"])

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return one list of answers per volume, in the order of its slices; see `serving.answers.KEYS`.

        Args:
            context: Not used; all was loaded before.
            model_input: DataFrame with the columns of `build_signature`: lists of one length in each row.
            params: There are none.
        """
        answers = [self.answer_volume(row) for row in model_input.itertuples(index=False)]
        return pd.DataFrame({"volume_id": list(model_input["volume_id"]), "answers": answers})

    def answer_volume(self, volume: Any) -> list[dict[str, Any]]:
        """Return the answers to the slices of a volume; a volume that is too large is an error in each of them.

        Names and numbers go around the engine, which bounds what callers send: it sees places in the volume.
        """
        numbers = [int(number) for number in volume.slice_index]
        places = {number: place for place, number in enumerate(sorted(set(numbers)))}
        slices = zip(numbers, volume.image, strict=True)
        records = [{"volume_id": "", "slice_index": places[number], "image": image} for number, image in slices]
        try:
            answers = self.engine.answer(records, None)
        except RequestError as error:
            fault = {"status": "error", "error": str(error)}
            answers = [describe_row(Row(image), self.engine.identity, **fault) for image in volume.image]
        own = zip(volume.id, numbers, answers, strict=True)
        return [{**answer, "id": name, "volume_id": volume.volume_id, "slice_index": n} for name, n, answer in own]


@lru_cache(maxsize=1)
def open_engine(folder: str) -> Engine:
    """Return what answers from the files of a version; engines load a model again for every part of a table."""
    manifest = check_version(Path(folder))
    cascade = load_cascade(Path(folder) / CASCADE_DIR).to(torch.device(choose_device()))
    return Engine(cascade, Identity(manifest["content_id"], read_version_number(Path(folder))), LIMITS)


def build_signature() -> ModelSignature:
    """Return the columns of a volume, and those of its answers."""
    lists = {"slice_index": "long", "id": "string", "image": "string"}
    answer = Object([Property(name, DataType[kind], required=False) for name, kind in KEYS.items()])
    return ModelSignature(
        inputs=Schema([ColSpec("string", "volume_id"), *(ColSpec(Array(kind), name) for name, kind in lists.items())]),
        outputs=Schema([ColSpec("string", "volume_id"), ColSpec(Array(answer), "answers")]),
    )


def pack_volume_model(uri: str, out: Path) -> Path:
    """Write a registered version as a model that is asked by volume; nothing in it needs the registry any more.

    Args:
        uri: Of the version, as MLflow names it, e.g. `models:/tumor-cascade@champion`.
        out: Folder to make.

    Returns:
        The folder.

    Raises:
        ParamsError: The version cannot be fetched.
        DataError: Its files are not what was registered.
    """
    with checked_version(uri) as folder, tempfile.TemporaryDirectory() as work:
        shim = Path(work, "shim.py")
        shim.write_text(SHIM, encoding="utf-8")
        requirements = [f"tumor-cascade=={__version__}"]
        save_model(
            out,
            python_model=str(shim),
            artifacts={"version": str(folder)},
            pip_requirements=requirements,
            signature=build_signature(),
        )
    return out
