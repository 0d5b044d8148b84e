"""What a Kubeflow task says of its outputs: where they are, and the metrics that its page shows."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tumor_cascade.errors import ParamsError
from tumor_cascade.registry.headlines import HEADLINES, read_headlines
from tumor_cascade.storage import write_json

METRICS, DECISION = "metrics", "decision"


def write_executor_output(stage: str, executor_input: str | None, flags: Mapping[str, Any]) -> None:
    """Write the output file that Kubeflow reads after a container component; nothing outside Kubeflow.

    Every output is named with its address: the local runner hands on what is named here, and nothing else.

    Args:
        stage: Its name.
        executor_input: Kubeflow's `{{$}}`: JSON with the addresses of outputs and of the file to write; or None.
        flags: Of the stage: `out_metrics` or `out_decision` where it writes them.

    Raises:
        ParamsError: `executor_input` is not what Kubeflow gives.
    """
    if executor_input is None:
        return
    try:
        outputs = json.loads(executor_input)["outputs"]
        path = Path(outputs["outputFile"])
        found = {name: dict(one["artifacts"][0]) for name, one in outputs.get("artifacts", {}).items()}
        artifacts = {name: {"name": one["name"], "uri": one["uri"]} for name, one in found.items()}
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ParamsError(
            f"--executor-input is not what Kubeflow gives ({type(error).__name__}: {error}); pass '{{{{$}}}}'."
        ) from error
    metadata = describe_outputs(stage, flags)
    listed = {name: {"artifacts": [{**one, "metadata": metadata.get(name, {})}]} for name, one in artifacts.items()}
    write_json(path, {"artifacts": listed})


def describe_outputs(stage: str, flags: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return by output what a task's page shows beside it: headline metrics, or the verdict of a promotion."""
    shown: dict[str, dict[str, Any]] = {}
    if (metrics := flags.get(f"out_{METRICS}")) is not None:
        whole = json.loads(metrics.read_text(encoding="utf-8"))
        shown[METRICS] = dict(read_headlines(stage, metrics)) if stage in HEADLINES else whole
    if (decision := flags.get(f"out_{DECISION}")) is not None:
        facts = json.loads((decision / "decision.json").read_text(encoding="utf-8"))
        shown[DECISION] = {name: facts[name] for name in ("verdict", "sentence") if name in facts}
    return shown
