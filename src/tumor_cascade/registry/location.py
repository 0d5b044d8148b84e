"""Where the ledger is: with the artifacts that all promoters share, or where the environment says; never made up."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from tumor_cascade.errors import ParamsError
from tumor_cascade.registry.client import hide_login
from tumor_cascade.settings import PREFIX

LEDGER_VARIABLE = f"{PREFIX}LEDGER"
DEFAULT_NAME = "promotions"


def locate_ledger(tracking_uri: str, artifact_location: str, remembered: str | None) -> str:
    """Return the URL of the ledger.

    TUMOR_CASCADE_LEDGER where it is set; else where the registry remembers its ledger; else `promotions` beside a
    SQLite database or in the artifacts' S3 bucket.

    Args:
        tracking_uri: Of MLflow.
        artifact_location: Of the experiment.
        remembered: The registry's own word, once it has a ledger.

    Raises:
        ParamsError: None of these tells: the server hides its bucket.
    """
    given = os.environ.get(LEDGER_VARIABLE)
    if given:
        return given if "://" in given else str(Path(given).absolute())
    if remembered:
        return remembered
    if tracking_uri.startswith("sqlite:///"):
        return str(Path(tracking_uri.removeprefix("sqlite:///")).absolute().with_name(DEFAULT_NAME))
    parts = urlsplit(artifact_location)
    if parts.scheme == "s3":
        return f"s3://{parts.netloc}/{DEFAULT_NAME}"
    raise ParamsError(
        f"{hide_login(tracking_uri)} does not say where its artifacts are kept, so nobody knows where its ledger "
        f"belongs; set {LEDGER_VARIABLE} to a place that all promoters share: s3://bucket/prefix or a folder."
    )
