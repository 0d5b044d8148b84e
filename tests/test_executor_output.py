import json
from pathlib import Path

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tumor_cascade.errors import ParamsError
from tumor_cascade.executor_output import write_executor_output


def make_input(folder: Path, *outputs: str) -> str:
    """Return what Kubeflow puts in the place of `{{$}}`."""
    artifacts = {
        name: {"artifacts": [{"name": name, "type": {"schemaTitle": "system.Artifact"}, "uri": f"s3://bucket/{name}"}]}
        for name in outputs
    }
    given = {"inputs": {}, "outputs": {"artifacts": artifacts, "outputFile": str(folder / "made" / "output.json")}}
    return json.dumps(given)


def read_output(folder: Path) -> pipeline_spec_pb2.ExecutorOutput:
    text = (folder / "made" / "output.json").read_text(encoding="utf-8")
    return json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput())


def test_write_executor_output__names_outputs_and_shows_headlines(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics"
    metrics.write_text('{"classifier/val_auroc": 0.91, "classifier/unheard_of": 1.0}', encoding="utf-8")
    given = make_input(tmp_path, "classifier", "metrics")
    write_executor_output("train_classifier", given, {"out_metrics": metrics, "out_classifier": tmp_path})
    artifacts = read_output(tmp_path).artifacts
    assert {name: one.artifacts[0].uri for name, one in artifacts.items()} == {
        "classifier": "s3://bucket/classifier",
        "metrics": "s3://bucket/metrics",
    }
    assert dict(artifacts["metrics"].artifacts[0].metadata) == {"classifier/val_auroc": 0.91}
    assert dict(artifacts["classifier"].artifacts[0].metadata) == {}


def test_write_executor_output__counts_of_a_prediction_are_shown_as_they_are(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics"
    metrics.write_text('{"num_slices": 3, "num_errors": 1}', encoding="utf-8")
    write_executor_output("predict", make_input(tmp_path, "metrics"), {"out_metrics": metrics})
    assert dict(read_output(tmp_path).artifacts["metrics"].artifacts[0].metadata) == {"num_slices": 3, "num_errors": 1}


def test_write_executor_output__a_verdict_is_shown(tmp_path: Path) -> None:
    decision = {"verdict": "refuse", "sentence": "volume Dice is below its floor", "checks": []}
    (tmp_path / "decision.json").write_text(json.dumps(decision), encoding="utf-8")
    write_executor_output("promote_cascade", make_input(tmp_path, "decision"), {"out_decision": tmp_path})
    assert dict(read_output(tmp_path).artifacts["decision"].artifacts[0].metadata) == {
        "verdict": "refuse",
        "sentence": "volume Dice is below its floor",
    }


def test_write_executor_output__outside_kubeflow_nothing_is_written(tmp_path: Path) -> None:
    write_executor_output("split_data", None, {"out_metrics": tmp_path / "missing"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["{", "{}", '{"outputs": {"artifacts": {"a": {"artifacts": []}}, "outputFile": "x"}}'])
def test_write_executor_output__something_else_is_refused(text: str) -> None:
    with pytest.raises(ParamsError, match=r"--executor-input is not what Kubeflow gives .*; pass '{{\$}}'"):
        write_executor_output("split_data", text, {})
