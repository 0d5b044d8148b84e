import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kubernetes.config import kube_config

from kubeflow_server import Kubeflow, serve_kubeflow
from object_server import find_ports
from pipelines import submission
from pipelines.cli import main
from pipelines.golden import COMPILED_DIR

PACKAGE = COMPILED_DIR / "batch_predict.yaml"
ARGUMENTS = ("--argument", "source=s3://bucket/images", "--argument", "out=s3://bucket/answers")


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubeflow]:
    for name in ("TUMOR_CASCADE_KFP_TOKEN", "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with serve_kubeflow(Kubeflow()) as served:
        yield served


def submit(kubeflow: Kubeflow, *arguments: str, package: Path = PACKAGE) -> Result:
    command = ["submit", str(package), "--host", kubeflow.url, "--poll-s", "0.1", *arguments]
    return CliRunner().invoke(main, command)


def count(kubeflow: Kubeflow) -> tuple[int, int, int, int]:
    return len(kubeflow.pipelines), len(kubeflow.versions), len(kubeflow.experiments), len(kubeflow.runs)


def test_submit__makes_all_and_follows_to_the_end(kubeflow: Kubeflow) -> None:
    result = submit(kubeflow, *ARGUMENTS)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines() == [
        f"Pipeline: {kubeflow.url}/#/pipelines/details/pipeline-0/version/version-0",
        f"Run:      {kubeflow.url}/#/runs/details/run-0",
        "PENDING: 0 of 1 tasks done",
        "RUNNING: 0 of 1 tasks done, running predict",
        "SUCCEEDED: 1 of 1 tasks done",
    ]
    assert count(kubeflow) == (1, 1, 1, 1)
    assert PACKAGE.read_bytes() in kubeflow.uploads[0]
    run = kubeflow.runs[0]
    assert run.runtime_config.parameters == {"source": "s3://bucket/images", "out": "s3://bucket/answers"}
    assert run.pipeline_version_reference.pipeline_version_id == "version-0"
    assert kubeflow.pipelines[0].display_name == "batch-predict"


def test_submit__the_same_again_makes_nothing(kubeflow: Kubeflow) -> None:
    package = COMPILED_DIR / "train_cascade.yaml"
    assert submit(kubeflow, package=package).exit_code == 0
    again = submit(kubeflow, package=package)
    assert again.exit_code == 0
    assert "run-0 (submitted before)" in again.output
    assert count(kubeflow) == (1, 1, 1, 1)


def test_submit__what_is_not_cached_is_followed_while_it_runs_and_done_again_later(kubeflow: Kubeflow) -> None:
    submit(kubeflow, *ARGUMENTS, "--detach")
    assert "run-0 (submitted before)" in submit(kubeflow, *ARGUMENTS).output
    again = submit(kubeflow, *ARGUMENTS)  # other images may lie there by now
    assert again.exit_code == 0
    assert "run-1\n" in again.output
    assert count(kubeflow) == (1, 1, 1, 2)


def test_submit__another_experiment_has_runs_of_its_own(kubeflow: Kubeflow) -> None:
    submit(kubeflow, *ARGUMENTS, "--detach")
    submit(kubeflow, *ARGUMENTS, "--detach", "--experiment", "other")
    assert count(kubeflow) == (1, 1, 2, 2)


def test_submit__where_and_as_whom_runs_go(kubeflow: Kubeflow) -> None:
    submit(kubeflow, *ARGUMENTS, "--detach", "--namespace", "research", "--service-account", "robot")
    submit(kubeflow, *ARGUMENTS, "--detach", "--namespace", "research", "--pipeline-root", "s3://bucket/root")
    assert [one.namespace for one in (*kubeflow.pipelines, *kubeflow.experiments)] == ["research"] * 2
    assert [run.service_account for run in kubeflow.runs] == ["robot", None]
    assert [run.runtime_config.pipeline_root for run in kubeflow.runs] == [None, "s3://bucket/root"]


def test_submit__without_a_host_asks_the_cluster_for_its_kubeflow(
    kubeflow: Kubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "research"}}],
        "clusters": [{"name": "here", "cluster": {"server": kubeflow.url}}],
        "users": [{"name": "me", "user": {"token": "mine"}}],
    }
    (tmp_path / "config").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    command = ["submit", str(PACKAGE), *ARGUMENTS, "--detach", "--namespace", "research"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert count(kubeflow) == (1, 1, 1, 1)


def test_submit__other_arguments_or_new_make_another_run(kubeflow: Kubeflow) -> None:
    submit(kubeflow, *ARGUMENTS, "--detach")
    submit(kubeflow, *ARGUMENTS, "--argument", "model=models:/tumor-cascade/3", "--detach")
    submit(kubeflow, *ARGUMENTS, "--detach", "--new")
    assert count(kubeflow) == (1, 1, 1, 3)
    assert len({run.display_name for run in kubeflow.runs}) == 2


def test_submit__another_file_is_another_version(kubeflow: Kubeflow, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(PACKAGE.read_text(encoding="utf-8").replace(f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"))
    submit(kubeflow, *ARGUMENTS, "--detach")
    submit(kubeflow, *ARGUMENTS, "--detach", package=other)
    assert count(kubeflow) == (1, 2, 1, 2)


def test_submit__a_failed_run_ends_in_one_and_is_made_anew(kubeflow: Kubeflow) -> None:
    kubeflow.states, kubeflow.tasks = ["RUNNING", "FAILED"], ["split_data", "train_segmenter, fold 2"]
    failed = submit(kubeflow, *ARGUMENTS)
    assert failed.exit_code == 1
    assert f"ended FAILED in train_segmenter, fold 2; see {kubeflow.url}/#/runs/details/run-0." in failed.output
    again = submit(kubeflow, *ARGUMENTS, "--detach")
    assert "run-1" in again.output
    assert count(kubeflow) == (1, 1, 1, 2)


def test_submit__a_stopped_run_ends_in_one(kubeflow: Kubeflow) -> None:
    kubeflow.states = ["RUNNING", "CANCELING", "CANCELED"]
    assert submit(kubeflow, *ARGUMENTS).exit_code == 1


def test_submit__a_server_that_is_away_for_a_while_is_waited_for(kubeflow: Kubeflow) -> None:
    kubeflow.num_outages = 3
    assert submit(kubeflow, *ARGUMENTS).exit_code == 0


def test_submit__a_server_that_stays_away_ends_in_five(kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission, "MAX_SILENCE_S", 0.2)
    kubeflow.num_outages = 1000
    result = submit(kubeflow, *ARGUMENTS)
    assert result.exit_code == 5
    assert "refuses (503" in result.output


def test_submit__no_server_is_said_at_once(kubeflow: Kubeflow) -> None:
    kubeflow.url = f"http://127.0.0.1:{find_ports(1)[0]}"
    result = submit(kubeflow, *ARGUMENTS)
    assert result.exit_code == 5
    assert f"{kubeflow.url} cannot be reached" in result.output
    assert "check --host, and that the server or a port-forward to it runs" in result.output
    assert "Traceback" not in result.output


def test_submit__a_token_is_taken_from_the_environment(kubeflow: Kubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeflow.token = "secret-token"
    refused = submit(kubeflow, *ARGUMENTS)
    assert refused.exit_code == 5
    assert "refuses (401" in refused.output
    assert "set TUMOR_CASCADE_KFP_TOKEN" in refused.output
    monkeypatch.setenv("TUMOR_CASCADE_KFP_TOKEN", "secret-token")
    accepted = submit(kubeflow, *ARGUMENTS)
    assert accepted.exit_code == 0
    assert "secret-token" not in accepted.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "arguments of batch-predict: out is missing, source is missing; it takes model, out, source"),
        ((*ARGUMENTS, "--argument", "fold=1"), "fold is unknown"),
        ((*ARGUMENTS, "--argument", "fold"), "--argument fold: must read NAME=VALUE"),
    ],
)
def test_submit__wrong_arguments_reach_no_server(kubeflow: Kubeflow, arguments: tuple[str, ...], message: str) -> None:
    result = submit(kubeflow, *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert count(kubeflow) == (0, 0, 0, 0)


@pytest.mark.parametrize("text", ["", "a: [", "a: 1\n", "just text"])
def test_submit__a_file_that_is_no_pipeline_is_refused(kubeflow: Kubeflow, tmp_path: Path, text: str) -> None:
    package = tmp_path / "pipeline.yaml"
    package.write_text(text, encoding="utf-8")
    result = submit(kubeflow, package=package)
    assert result.exit_code == 2
    assert "is no compiled pipeline" in result.output
