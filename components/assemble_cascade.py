"""Component `assemble_cascade`: one per number of folds, since a component's inputs are fixed."""

import inspect
from collections.abc import Sequence
from typing import Any

from kfp import dsl

from components.container import run_stage

INPUTS = dict.fromkeys(("slices", "manifest", "splits"), dsl.Input[dsl.Dataset])
OUTPUTS = {
    "cascade": dsl.Output[dsl.Model],
    "report": dsl.Output[dsl.Artifact],
    "metrics": dsl.Output[dsl.Metrics],
}


def name_network(role: str, fold: int) -> str:
    """Return the input of a fold's network."""
    return f"{role}_{fold}"


def build_assemble_cascade(folds: Sequence[int]) -> Any:
    """Return the component that takes a classifier and a segmenter of each fold, as `classifier_0`, `segmenter_0`."""
    networks = [(role, name_network(role, fold)) for role in ("classifier", "segmenter") for fold in folds]
    types = {"params": str, **{name: dsl.Input[dsl.Model] for _, name in networks}, **INPUTS, **OUTPUTS}

    def assemble_cascade(*arguments: Any) -> dsl.ContainerSpec:
        """Choose gate and thresholds on validation patients and pack all networks into one product."""
        given = dict(zip(types, arguments, strict=True))
        return run_stage(
            "assemble_cascade",
            *("--params-json", given["params"]),
            *(part for role, name in networks for part in (f"--{role}", given[name].path)),
            *(part for name in INPUTS for part in (f"--{name}", given[name].path)),
            *(part for name in OUTPUTS for part in (f"--out-{name}", given[name].path)),
        )

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind, annotation=given) for name, given in types.items()]
    signature = inspect.Signature(parameters, return_annotation=dsl.ContainerSpec)
    assemble_cascade.__signature__ = signature  # type: ignore[attr-defined] # which kfp reads the inputs from
    return dsl.container_component(assemble_cascade)
