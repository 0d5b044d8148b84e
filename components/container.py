"""What all components have in common: one image, one program, one flag by which Kubeflow learns of outputs."""

from kfp import dsl

IMAGE = "tumor-cascade"  # a stand-in: the image is named when a pipeline is compiled


def run_stage(command: str, *arguments: object) -> dsl.ContainerSpec:
    """Return a container that runs a sub-command of `tumor-cascade`."""
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["tumor-cascade", command],
        args=[*arguments, "--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER],
    )
