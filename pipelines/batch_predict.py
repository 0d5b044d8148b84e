"""Pipeline `batch_predict`: a stored folder or bucket through the champion."""

from typing import Any

from kfp import dsl

from components.predict import predict
from pipelines.plan import Plan
from pipelines.task_placement import configure_pipeline, place

CHAMPION = "models:/tumor-cascade@champion"


def build_batch_predict(plan: Plan) -> Any:
    """Return the pipeline; what is predicted, by which version, and where answers go is said when it is run."""

    @dsl.pipeline(
        name="batch-predict",
        description="Find tumors in stored images with the champion. Research use only.",
        pipeline_config=configure_pipeline(plan.placement),
    )
    def batch_predict(source: str, out: str, model: str = CHAMPION) -> None:
        task = predict(source=source, model=model, out=out)
        task.set_container_image(plan.image)
        task.set_caching_options(enable_caching=False)  # images and champion may change under the same name
        place(task, plan.placement, "predict")

    return batch_predict
