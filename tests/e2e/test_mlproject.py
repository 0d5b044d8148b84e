"""`mlflow run` as people type it, on the default SQLite database."""

import shutil
from pathlib import Path

import pytest

from tumor_cascade.registry.client import connect
from workplaces import Workplace

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def copy(smoke: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """The finished run in a folder that a test may change."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(smoke.folder, tmp_path / "copy", symlinks=True)
    return Workplace(tmp_path / "copy")


def test_mlflow_run__a_stage_with_an_override_becomes_the_run_that_mlflow_opened(copy: Workplace) -> None:
    before = (copy.folder / "params.yaml").read_bytes()
    override = "set=evaluate_cascade.num_bootstrap=150 evaluate_cascade.seed=2"
    where = ("--env-manager", "local", "--experiment-name", "tumor-cascade")
    output = copy.run("mlflow", "run", ".", *where, "-e", "evaluate_cascade", "-P", override)
    assert "succeeded" in output
    assert (copy.folder / "params.yaml").read_bytes() == before
    copy.run("tumor-cascade", "track")
    client = connect(f"sqlite:///{copy.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("tumor-cascade")
    assert experiment is not None
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    opened = [run for run in runs.values() if run.data.tags.get("mlflow.project.entryPoint") == "evaluate_cascade"]
    (evaluation,) = opened
    assert evaluation.data.params["evaluate_cascade.num_bootstrap"] == "150"
    assert evaluation.data.tags["content_id"]
    assert evaluation.info.status == "FINISHED"
    parent = runs[evaluation.data.tags["mlflow.parentRunId"]]
    assert parent.data.tags["stage"] == "pipeline"
    assert parent.data.params["evaluate_cascade.seed"] == "2"
    children = [run for run in runs.values() if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 7
    # Those before it were made by the pipeline that ran before.
    assert sum("same_content_as" in run.data.tags for run in children) == 6


def test_mlflow_run__main_runs_the_pipeline_and_offers_its_product_to_the_gate(copy: Workplace) -> None:
    where = ("--env-manager", "local", "--experiment-name", "tumor-cascade")
    output = copy.run("mlflow", "run", ".", *where, "-P", "set=evaluate_cascade.num_bootstrap=150")
    assert copy.find_runs(output) == ["evaluate_cascade"]
    assert "Version 1: Not decided: the evidence is too weak for Number of patients" in output
    before = copy.read_json("artifacts/promote_cascade/decision/decision.json")
    # The same question again, through the entry point of the act alone: the answer is on record.
    output = copy.run(
        "mlflow", "run", ".", *where, "-e", "promote_cascade", "-P", "set=evaluate_cascade.num_bootstrap=150"
    )
    assert "Ledger entry 1 (abstain), as entered before." in output
    assert copy.read_json("artifacts/promote_cascade/decision/decision.json") == before
    assert len(list((copy.folder / "promotions/ledger").glob("*.json"))) == 1
