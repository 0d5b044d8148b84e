"""`tumor-cascade remote`: where DVC pushes results to and pulls them from, a folder or an S3 bucket."""

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from tumor_cascade.errors import ParamsError
from tumor_cascade.object_store import refuse_credentials

REMOTE_NAME = "storage"
# DVC waits for minutes where a store does not answer; botocore tries several times on top of that.
S3_OPTIONS = {"connect_timeout": "10", "read_timeout": "60"}


def configure_remote(url: str, endpoint_url: str | None = None, repository: Path = Path()) -> None:
    """Make a folder or bucket the default DVC remote, in .dvc/config. Credentials stay in the environment.

    Args:
        url: A folder, or `s3://bucket/path`.
        endpoint_url: Of an S3 server other than Amazon's.
        repository: A folder inside the DVC repository.

    Raises:
        ParamsError: The URL holds credentials, an endpoint comes without an S3 URL, or DVC refuses.
    """
    refuse_credentials(url, endpoint_url or "")
    is_s3 = urlsplit(url).scheme == "s3"
    if endpoint_url and not is_s3:
        raise ParamsError(f"--endpoint-url goes with an s3:// URL, not with {url}; leave it out or correct the URL.")
    _run_dvc(repository, "remote", "add", "--default", "--force", REMOTE_NAME, url)
    options = {**S3_OPTIONS, **({"endpointurl": endpoint_url} if endpoint_url else {})} if is_s3 else {}
    for name, value in options.items():
        _run_dvc(repository, "remote", "modify", REMOTE_NAME, name, value)


def _run_dvc(repository: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().removeprefix("ERROR: ")
        raise ParamsError(f"dvc {' '.join(arguments)}: {reason}")
