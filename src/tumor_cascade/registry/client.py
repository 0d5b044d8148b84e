"""The connection to MLflow: where it is, whether it answers, and quiet, short-tempered clients."""

import logging
import os
import re
import ssl
import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from tumor_cascade.errors import TumorCascadeError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

EXPERIMENT_NAME = "tumor-cascade"
DEFAULT_DATABASE, DEFAULT_ARTIFACTS = "mlflow.db", "mlartifacts"
QUESTION_TIMEOUT_S = 3.0
LOGIN_WANTED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
REFUSALS = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")  # MLflow's names of 401 and 403
# What MLflow reads from the environment, unless someone has set it: MLflow's own choice is to try for minutes.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class TrackingError(TumorCascadeError):
    """A tracking server that does not answer, or knows nothing of what is asked for."""


def get_tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or a SQLite file in the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DEFAULT_DATABASE}"


def is_store_missing() -> bool:
    """Say whether everything tracked would be in a SQLite file that is not there: MLflow makes it when it is asked."""
    path = re.sub(r"^sqlite:///", "", get_tracking_uri())
    return path != get_tracking_uri() and not Path(path).exists()


def does_answer(uri: str) -> bool:
    """Say within seconds, and without importing MLflow, whether a server is there; a database file always is.

    One that wants a login, or shows a certificate that MLflow alone is told to trust, is there: its client has both.
    """
    if not uri.startswith(("http://", "https://")):
        return True
    try:
        with urllib.request.urlopen(f"{hide_login(uri).rstrip('/')}/health", timeout=QUESTION_TIMEOUT_S):
            return True
    except urllib.error.HTTPError as error:
        return error.code in LOGIN_WANTED
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)
    except (OSError, HTTPException):
        return False


def hide_login(uri: str) -> str:
    """Return an address, or a text with some, without the user and the password that may stand in it."""
    return re.sub(r"(?<=://)[^/\s]*@", "", uri)


def connect(uri: str | None = None) -> "MlflowClient":
    """Return a client of the tracking server and the model registry.

    Args:
        uri: Of the server; `get_tracking_uri()` without it.

    Raises:
        TrackingError: The server does not answer.
    """
    uri = uri or get_tracking_uri()
    if not does_answer(uri):
        raise TrackingError(
            f"{hide_login(uri)} does not answer; start it (`tumor-cascade services up`) or set MLFLOW_TRACKING_URI."
        )
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    import mlflow

    for name in ("mlflow", "alembic", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    return mlflow.MlflowClient(uri)


def find_experiment(client: "MlflowClient", name: str) -> "Experiment | None":
    """Return an experiment, or None where there is none of this name.

    Raises:
        TrackingError: The server wants another login, or its certificate is not trusted.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_experiment_by_name(name)
    except MlflowException as error:
        if error.error_code not in REFUSALS and "SSLError" not in str(error):
            raise
        raise TrackingError(
            f"{hide_login(str(error))}; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD or "
            "MLFLOW_TRACKING_TOKEN, and MLFLOW_TRACKING_SERVER_CERT_PATH for a certificate of your own."
        ) from error


def open_experiment(client: "MlflowClient") -> str:
    """Return the id of the experiment that the environment names, or of `tumor-cascade`; made where it is missing.

    Raises:
        TrackingError: The server refuses, or the experiment is deleted.
    """
    from mlflow.exceptions import MlflowException

    given = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if given:
        return given
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT_NAME
    experiment = find_experiment(client, name)
    if experiment is None:
        is_file = client.tracking_uri.startswith("sqlite:")
        location = (Path(DEFAULT_ARTIFACTS).absolute() / name).as_uri() if is_file else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another tracker has just made it
            experiment = find_experiment(client, name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise TrackingError(f"experiment {name} is deleted; restore it, or set MLFLOW_EXPERIMENT_NAME to another one.")
    return str(experiment.experiment_id)
