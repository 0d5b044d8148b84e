"""Pipeline `train_cascade`: all stages, from data to a judged product; the trainings of all folds in parallel."""

from typing import Any

from kfp import dsl

from pipelines.plan import Plan
from pipelines.stage_tasks import StageTasks
from pipelines.task_placement import configure_pipeline


def build_train_cascade(plan: Plan) -> Any:
    """Return the pipeline."""
    folds = plan.params.assemble_cascade.folds

    @dsl.pipeline(
        name="train-cascade",
        description="Ingest, validate, split, train, assemble, evaluate, promote. Research use only.",
        pipeline_config=configure_pipeline(plan.placement),
    )
    def train_cascade() -> None:
        stages = StageTasks(plan)
        data = stages.prepare_data()
        networks = stages.train_networks(data, folds)
        cascade = stages.assemble(data, networks, folds)
        report = stages.evaluate(data, cascade)
        stages.promote(data, cascade, report)

    return train_cascade
