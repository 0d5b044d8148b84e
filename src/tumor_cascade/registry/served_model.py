"""What MLflow serves: a version that is checked before it is loaded, and answers as `tumor-cascade serve` does."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema
from PIL import Image

from tumor_cascade.data.phantom import generate_patient
from tumor_cascade.product import load_cascade
from tumor_cascade.registry.health import CASCADE_DIR
from tumor_cascade.registry.served_version import check_version, read_version_number
from tumor_cascade.serving.answers import KEYS, Identity, write_png
from tumor_cascade.serving.engine import Engine
from tumor_cascade.serving.limits import Limits
from tumor_cascade.serving.page import SAMPLES
from tumor_cascade.serving.rows import THRESHOLDS, BusyError, Options, RequestError
from tumor_cascade.serving.tables import to_plain_records
from tumor_cascade.settings import choose_device

logger = logging.getLogger(__name__)


class ServedModel(PythonModel):
    """A cascade behind MLflow's interface. Its errors are MLflow's own, so that no trace leaves the server."""

    def load_context(self, context: PythonModelContext) -> None:
        """Check every file, load the cascade and warm it up.

        Raises:
            DataError: A file is not what was registered.
        """
        folder = Path(context.artifacts["version"]).parents[1]
        manifest = check_version(folder)
        identity = Identity(manifest["content_id"], read_version_number(folder))
        cascade = load_cascade(folder / CASCADE_DIR).to(torch.device(choose_device()))
        self.engine = Engine(cascade, identity, Limits())

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Return an answer per row; see `serving.answers.KEYS`.

        Args:
            context: Not used; all was loaded before.
            model_input: DataFrame with the columns of the signature.
            params: Of the signature.

        Raises:
            MlflowException: The request as a whole is wrong, or cannot be answered in time.
        """
        try:
            rows = model_input.astype(object).to_numpy().tolist()
            return self.engine.answer(to_plain_records(list(map(str, model_input.columns)), rows), params)
        except RequestError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None
        except BusyError as error:
            raise MlflowException(str(error), error_code=TEMPORARILY_UNAVAILABLE) from None
        except Exception:
            logger.exception("a request could not be answered")
            text = "the server has made a mistake; its log tells which"
            raise MlflowException(text, error_code=INTERNAL_ERROR) from None


def build_signature() -> ModelSignature:
    """Return what MLflow checks requests against, and shows of answers."""
    defaults = Options()
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec("string", "image"),
                ColSpec("string", "id", required=False),
                ColSpec("string", "volume_id", required=False),
                ColSpec("long", "slice_index", required=False),
            ]
        ),
        outputs=Schema([ColSpec(kind, name, required=False) for name, kind in KEYS.items()]),
        params=ParamSchema(
            [
                ParamSpec("mask", "string", defaults.mask),
                *(ParamSpec(name, "double", None) for name in THRESHOLDS),
                ParamSpec("uncertainty_threshold", "double", defaults.uncertainty_threshold),
            ]
        ),
    )


def build_input_example() -> pd.DataFrame:
    """Return a request of two made-up slices of one volume."""
    slices = generate_patient(SAMPLES, 1).slices[3:5]
    images = [write_png(Image.fromarray(np.ascontiguousarray(one.image.transpose(1, 2, 0)))) for one in slices]
    return pd.DataFrame({"image": images, "id": ["a", "b"], "volume_id": ["made-up", "made-up"], "slice_index": [0, 1]})
