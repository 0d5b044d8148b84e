import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from tumor_cascade.errors import ParamsError
from tumor_cascade.remote import configure_remote


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "repository" / ".dvc").mkdir(parents=True)
    (tmp_path / "repository" / ".dvc" / "config").write_text("[core]\n    analytics = false\n", encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path / "repository", check=True)
    return tmp_path / "repository"


def read_config(repository: Path) -> dict[str, dict[str, str]]:
    parser = ConfigParser()
    parser.read(repository / ".dvc" / "config")
    return {name: dict(section) for name, section in parser.items() if name != "DEFAULT"}


def test_configure_remote__a_folder_becomes_the_default_and_other_settings_stay(repository: Path) -> None:
    configure_remote("/mnt/results", repository=repository)
    assert read_config(repository) == {
        "core": {"analytics": "false", "remote": "storage"},
        "'remote \"storage\"'": {"url": "/mnt/results"},
    }


def test_configure_remote__a_bucket_gets_timeouts_and_endpoint_and_replaces_the_folder(repository: Path) -> None:
    configure_remote("/mnt/results", repository=repository)
    configure_remote("s3://bucket/path", "http://127.0.0.1:8333", repository)
    assert read_config(repository)["'remote \"storage\"'"] == {
        "url": "s3://bucket/path",
        "endpointurl": "http://127.0.0.1:8333",
        "connect_timeout": "10",
        "read_timeout": "60",
    }


@pytest.mark.parametrize(
    ("url", "endpoint_url", "message"),
    [
        ("s3://key:secret@bucket/path", None, "holds credentials.* AWS_ACCESS_KEY_ID"),
        ("s3://bucket/path", "http://key:secret@127.0.0.1", "holds credentials"),
        ("/mnt/results", "http://127.0.0.1", "--endpoint-url goes with an s3:// URL, not with /mnt/results"),
        ("gopher://hole", None, "dvc remote add .* gopher"),
    ],
)
def test_configure_remote__a_wrong_url_changes_nothing(
    repository: Path, url: str, endpoint_url: str | None, message: str
) -> None:
    with pytest.raises(ParamsError, match=message):
        configure_remote(url, endpoint_url, repository)
    assert read_config(repository) == {"core": {"analytics": "false"}}


def test_configure_remote__outside_a_dvc_repository(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="Not inside a DVC repo"):
        configure_remote("/mnt/results", repository=tmp_path)
