from pathlib import Path

import pytest

from tumor_cascade.errors import ParamsError
from tumor_cascade.registry.location import locate_ledger


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUMOR_CASCADE_LEDGER", raising=False)


@pytest.mark.parametrize(
    ("uri", "artifacts", "remembered", "expected"),
    [
        ("sqlite:///mlflow.db", "", None, "{here}/promotions"),
        ("sqlite:////data/mlflow.db", "", None, "/data/promotions"),
        ("http://127.0.0.1:5000", "s3://bucket/7/artifacts", None, "s3://bucket/promotions"),
        ("http://127.0.0.1:5000", "mlflow-artifacts:/7", "s3://ledger/tumor-cascade", "s3://ledger/tumor-cascade"),
    ],
)
def test_locate_ledger(uri: str, artifacts: str, remembered: str | None, expected: str) -> None:
    assert locate_ledger(uri, artifacts, remembered) == expected.format(here=Path.cwd())


@pytest.mark.parametrize(("given", "expected"), [("s3://b/p", "s3://b/p"), ("place", "{here}/place")])
def test_locate_ledger__the_environment_rules(monkeypatch: pytest.MonkeyPatch, given: str, expected: str) -> None:
    monkeypatch.setenv("TUMOR_CASCADE_LEDGER", given)
    assert locate_ledger("sqlite:///mlflow.db", "", "s3://other") == expected.format(here=Path.cwd())


def test_locate_ledger__a_server_that_hides_its_bucket() -> None:
    with pytest.raises(ParamsError, match=r"set TUMOR_CASCADE_LEDGER to a place that all promoters share"):
        locate_ledger("http://127.0.0.1:5000", "mlflow-artifacts:/7", None)
