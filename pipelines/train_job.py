"""A training on several nodes, for Kubeflow Trainer: a runtime that prepares the data, and a job that trains.

Trainer gives each pod torchrun's variables (PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR, ...); torchrun starts the
stage's own command once per GPU and tells each process its rank, which Lightning reads. How many there are together is
told to the stage by the same numbers that the job is made of.

What the training leaves is its last checkpoint in the checkpoint store: wherever the same stage is run again over the
same data and params, it finds that its training has ended, and writes its outputs at once.
"""

import hashlib
from typing import Any

from pipelines.placement import Kind
from pipelines.plan import Plan
from pipelines.pods import WORK_DIR, build_container, build_pod, build_resources
from tumor_cascade.content import hash_making
from tumor_cascade.errors import ParamsError
from tumor_cascade.pod_options import MAKING_VARIABLE
from tumor_cascade.storage import canonical_json

API_VERSION = "trainer.kubeflow.org/v1alpha1"
STEP_LABEL = {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
LABEL = {"app.kubernetes.io/name": "tumor-cascade"}
FRAMEWORK_LABEL = {"trainer.kubeflow.org/framework": "torch"}
NODE = "node"  # as Trainer names job and container of a training
STAGES = ("train_classifier", "train_segmenter")
# Where the containers of a pod leave what the next one reads, and a training its outputs.
PATHS = {name: f"{WORK_DIR}/{name}" for name in ("slices", "manifest", "splits")}
NETWORKS = {stage: stage.removeprefix("train_") for stage in STAGES}


def render_train_job(plan: Plan, stage: str, fold: int) -> list[dict[str, Any]]:
    """Return a TrainingRuntime and the TrainJob that uses it; equal plans give equal names.

    Args:
        plan: Image, params, data, placement.
        stage: One of `STAGES`.
        fold: Validation fold.

    Raises:
        ParamsError: A batch, or the loss over it, cannot be dealt to all processes, or there is no such fold.
    """
    placement = plan.placement.train_job
    check_shares(plan, stage, fold)
    kind = plan.placement.kinds[placement.kind]
    job = {
        "activeDeadlineSeconds": kind.timeout_s,
        "trainer": {
            "command": ["torchrun", "--no-python", *build_command(plan, stage, fold)],
            "numNodes": placement.num_nodes,
            "numProcPerNode": placement.num_processes_per_node,
            "resourcesPerNode": build_resources(kind, placement.num_processes_per_node),
        },
    }
    runtime = build_runtime(plan, kind, stage)
    digest = hashlib.sha256(canonical_json([job, runtime])).hexdigest()
    name = f"{stage.replace('_', '-')}-{fold}-{digest[:8]}"
    reference = {"apiGroup": API_VERSION.split("/")[0], "kind": "TrainingRuntime", "name": name}
    spec: dict[str, Any] = {"runtimeRef": reference, **job}
    parts = (("TrainingRuntime", {**LABEL, **FRAMEWORK_LABEL}, runtime), ("TrainJob", LABEL, spec))
    return [
        {
            "apiVersion": API_VERSION,
            "kind": what,
            "metadata": {"name": name, "labels": {**labels, **kind.labels}},
            "spec": content,
        }
        for what, labels, content in parts
    ]


def check_shares(plan: Plan, stage: str, fold: int) -> None:
    """Refuse what every pod would refuse after an hour in a queue.

    Raises:
        ParamsError: A batch, or the loss over it, cannot be dealt to all processes, or there is no such fold.
    """
    placement, num_folds = plan.placement.train_job, plan.params.split_data.num_folds
    num_processes = placement.num_nodes * placement.num_processes_per_node
    batch_size = int(plan.values[stage]["batch_size"])
    if batch_size % num_processes:
        raise ParamsError(
            f"{stage}.batch_size is {batch_size}; must be a multiple of the {num_processes} processes that share it "
            "(train_job.num_nodes x num_processes_per_node). Change one of them."
        )
    if num_processes > 1 and plan.values[stage].get("reduction") == "per_batch":
        raise ParamsError(
            f"{stage}.reduction is per_batch; must be per_image where processes share a batch: each would measure its "
            "own part alone. Change it, or place the job in one process (train_job)."
        )
    if fold >= num_folds:
        raise ParamsError(f"fold is {fold}; must be below split_data.num_folds, {num_folds}. Name another.")


def expect_making(stage: str) -> dict[str, str]:
    """Return the variable that has a container refuse an image of other code, whose result would get another name."""
    return {"name": MAKING_VARIABLE, "value": hash_making(stage)}


def build_runtime(plan: Plan, kind: Kind, stage: str) -> dict[str, Any]:
    """Return the specification of the runtime: a JobSet whose pods prepare the data, then train."""
    placement = plan.placement
    num_nodes, num_processes = placement.train_job.num_nodes, placement.train_job.num_processes_per_node
    node = build_container(NODE, plan.image, ["torchrun"], placement, kind)
    shares = {"TUMOR_CASCADE_NUM_NODES": num_nodes, "TUMOR_CASCADE_NUM_PROCESSES": num_processes}
    node["env"] += [{"name": name, "value": str(value)} for name, value in shares.items()]
    node["env"].append(expect_making(stage))
    pod = {
        **build_pod(placement, kind),
        "restartPolicy": "Never",
        "initContainers": build_preparation(plan),
        "containers": [node],
    }
    template = {"metadata": {"labels": {**LABEL, **kind.labels}}, "spec": pod}
    job = {"metadata": {"labels": STEP_LABEL}, "spec": {"backoffLimit": 0, "template": template}}
    job_set = {
        "failurePolicy": {"maxRestarts": kind.retries.number},  # of all nodes together
        "ttlSecondsAfterFinished": placement.pipeline.ttl_s,
        "replicatedJobs": [{"name": NODE, "template": job}],
    }
    return {"mlPolicy": {"numNodes": num_nodes, "torch": {}}, "template": {"spec": job_set}}


def build_preparation(plan: Plan) -> list[dict[str, Any]]:
    """Return the containers that run before a training, in their order."""
    data = {"raw": plan.data.url, "reference": plan.data.reference, "data-store": ""}
    commands = {
        "ingest_data": build_stage(plan, "ingest_data", "slices", "manifest", **data),
        "split_data": [*build_stage(plan, "split_data", "splits", "metrics"), *name_inputs("slices", "manifest")],
    }
    containers = []
    for stage, command in commands.items():
        kind = plan.placement.kinds[plan.placement.tasks[stage]]
        container = build_container(stage.replace("_", "-"), plan.image, command, plan.placement, kind)
        container["env"].append(expect_making(stage))
        containers.append({**container, "resources": build_resources(kind, 0)})
    return containers


def build_command(plan: Plan, stage: str, fold: int) -> list[str]:
    """Return the command of a training."""
    command = build_stage(plan, stage, NETWORKS[stage], "report", "metrics")
    return [*command, "--fold", str(fold), *name_inputs("slices", "manifest", "splits")]


def build_stage(plan: Plan, stage: str, *outputs: str, **values: str) -> list[str]:
    """Return a stage's command with its params and outputs.

    Args:
        plan: With the params.
        stage: Its name.
        outputs: Nouns; where other stages read them is in `PATHS`.
        values: Of flags that are no paths.
    """
    paths = {noun: PATHS.get(noun, f"{WORK_DIR}/{stage}/{noun}") for noun in outputs}
    flags = {**values, **{f"out-{noun}": path for noun, path in paths.items()}}
    named = [text for flag, value in flags.items() for text in (f"--{flag}", value)]
    return ["tumor-cascade", stage, "--params-json", plan.select_sections(stage), *named]


def name_inputs(*nouns: str) -> list[str]:
    """Return the flags of inputs."""
    return [text for noun in nouns for text in (f"--{noun}", PATHS[noun])]
