"""What MLflow serves: a version that is checked against its own manifest before anything of it is loaded."""

import json
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

from tumor_cascade.errors import DataError
from tumor_cascade.product import load_cascade
from tumor_cascade.registry.versions import compare_files, hash_files


class ServedModel(PythonModel):  # type: ignore[misc]
    """A cascade behind MLflow's interface."""

    def load_context(self, context: PythonModelContext) -> None:
        """Check every file and load the cascade.

        Raises:
            DataError: A file is not as the version's manifest says.
        """
        folder = Path(context.artifacts["cascade"])
        manifest = json.loads(Path(context.artifacts["version"]).read_text(encoding="utf-8"))
        prefix = "artifacts/cascade/"
        expected = {
            name.removeprefix(prefix): one for name, one in manifest["files"].items() if name.startswith(prefix)
        }
        if faults := compare_files(hash_files(folder), expected):
            raise DataError(faults, "this version is not what was registered:")
        self.cascade, self.content_id = load_cascade(folder), manifest["content_id"]

    def predict(self, context: PythonModelContext, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Refuse: rows are not read here yet."""
        raise MlflowException("this version cannot be served over MLflow yet", error_code=INVALID_PARAMETER_VALUE)
