"""Pipeline `cross_validate`: every development patient judged by networks that have not learned from it."""

from typing import Any

from kfp import dsl

from pipelines.plan import Plan
from pipelines.stage_tasks import StageTasks
from pipelines.task_placement import configure_pipeline
from tumor_cascade.errors import ParamsError


def build_cross_validate(plan: Plan) -> Any:
    """Return the pipeline: the folds of DVC's matrix, unrolled, and one report over all of their patients.

    Raises:
        ParamsError: A fold is left out, or the report would be about other patients.
    """
    params = plan.params
    folds, num_folds = params.assemble_cascade.folds, params.split_data.num_folds
    if sorted(folds) != list(range(num_folds)):
        raise ParamsError(
            f"assemble_cascade.folds is {folds}; cross_validate needs all of split_data.num_folds, 0 to "
            f"{num_folds - 1}; name them all, or compile train_cascade."
        )
    if params.evaluate_cascade.partition != "out_of_fold":
        raise ParamsError(
            f"evaluate_cascade.partition is {params.evaluate_cascade.partition}; must be out_of_fold in "
            "cross_validate, which leaves the locked test set closed; set it."
        )

    @dsl.pipeline(
        name="cross-validate",
        description="All folds, one pooled out-of-fold report with intervals over patients. Research use only.",
        pipeline_config=configure_pipeline(plan.placement),
    )
    def cross_validate() -> None:
        stages = StageTasks(plan)
        data = stages.prepare_data()
        networks = stages.train_networks(data, folds)
        stages.evaluate(data, stages.assemble(data, networks, folds))

    return cross_validate
