"""Stages as tasks of a pipeline: params, image, placement and cache key put on each, once for all pipelines."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kfp.dsl.pipeline_channel import PipelineChannel

from components.assemble_cascade import build_assemble_cascade, name_network
from components.evaluate_cascade import evaluate_cascade
from components.ingest_data import ingest_data
from components.promote_cascade import promote_cascade
from components.split_data import split_data
from components.train_classifier import train_classifier
from components.train_segmenter import train_segmenter
from components.validate_data import validate_data
from pipelines.cache_keys import compute_cache_key
from pipelines.plan import Plan
from pipelines.task_placement import place
from tumor_cascade.content import hash_making
from tumor_cascade.pod_options import MAKING_VARIABLE


@dataclass(frozen=True)
class Data:
    """Outputs that all later stages read: `slices`, `manifest`, `splits`."""

    slices: Any
    manifest: Any
    splits: Any

    def to_inputs(self) -> dict[str, Any]:
        """Return them by name of input."""
        return {"slices": self.slices, "manifest": self.manifest, "splits": self.splits}


class StageTasks:
    """Makes the tasks of one pipeline while it is being built."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.keys: dict[str, str] = {}  # task -> cache key

    def prepare_data(self) -> Data:
        """Ingest, validate and split; bad data stop before the split."""
        source = self.plan.data
        ingested = self.add(ingest_data, "ingest_data", raw=source.url, reference=source.reference)
        packed = {name: ingested.outputs[name] for name in ("slices", "manifest")}
        validated = self.add(validate_data, "validate_data", **packed)
        split = self.add(split_data, "split_data", after=[validated], **packed)
        return Data(**packed, splits=split.outputs["splits"])

    def train_networks(self, data: Data, folds: Sequence[int]) -> dict[str, Any]:
        """Train a classifier and a segmenter per fold, all at the same time; return them as inputs of the assembly."""
        networks = {}
        for fold in folds:
            for role, component in (("classifier", train_classifier), ("segmenter", train_segmenter)):
                task = self.add(component, f"train_{role}", fold=fold, **data.to_inputs())
                networks[name_network(role, fold)] = task.outputs[role]
        return networks

    def assemble(self, data: Data, networks: dict[str, Any], folds: Sequence[int]) -> Any:
        """Pack all networks into one product; return it."""
        component = build_assemble_cascade(folds)
        return self.add(component, "assemble_cascade", **networks, **data.to_inputs()).outputs["cascade"]

    def evaluate(self, data: Data, cascade: Any) -> Any:
        """Score the product; return the report."""
        return self.add(evaluate_cascade, "evaluate_cascade", cascade=cascade, **data.to_inputs()).outputs["report"]

    def promote(self, data: Data, cascade: Any, report: Any) -> None:
        """Offer the product to the registry's gate."""
        self.add(promote_cascade, "promote_cascade", cascade=cascade, report=report, **data.to_inputs())

    def add(self, component: Any, stage: str, after: Sequence[Any] = (), **inputs: Any) -> Any:
        """Return a new task of a stage.

        Args:
            component: Of the stage.
            stage: Its name.
            after: Tasks to wait for, beside those whose outputs are read.
            inputs: Of the component, without its params.
        """
        sections = self.plan.select_sections(stage)
        task = component(params=sections, **inputs).after(*after)
        fold = inputs.get("fold")
        task.set_display_name(stage if fold is None else f"{stage}, fold {fold}")
        task.set_container_image(self.plan.image)
        place(task, self.plan.placement, stage)
        task.set_env_variable(MAKING_VARIABLE, hash_making(stage))  # the cache key's, which the image must hold
        channels = {name: value for name, value in inputs.items() if isinstance(value, PipelineChannel)}
        upstream = {self.keys[channel.task_name] for channel in channels.values()} | {self.keys[t.name] for t in after}
        plain = {name: value for name, value in inputs.items() if name not in channels}
        key = compute_cache_key(stage, {"params": sections, **plain}, sorted(upstream))
        self.keys[task.name] = key
        # Raw data in a bucket may change under the same name; what they become is known once they are ingested.
        is_cached = stage != "promote_cascade" and not self.plan.data.url
        task.set_caching_options(is_cached, cache_key=key if is_cached else None)
        return task
