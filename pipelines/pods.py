"""What pods outside of a pipeline are given: the same nodes, variables and bounds, from the same placement.

Pipelines get theirs from `task_placement.place`. What that leaves to Kubeflow is said here: pods run as a user without
any privilege, over a root file system that nobody can write.
"""

from typing import Any

from pipelines.placement import CACHE_VARIABLE, Kind, Placement

USER_ID = 1000  # of the image
WORK_DIR = "/scratch"  # a pod's own folder, shared by its containers
SHARED_MEMORY, WORK, TEMPORARY, CACHE = "shared-memory", "work", "temporary", "data-cache"


def build_pod(placement: Placement, kind: Kind) -> dict[str, Any]:
    """Return a pod's specification without its containers."""
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "imagePullSecrets": [{"name": name} for name in placement.image_pull_secrets],
        "nodeSelector": dict(kind.node_selector),
        "affinity": build_affinity(kind),
        "tolerations": [toleration.model_dump(exclude_none=True) for toleration in kind.tolerations],
        "volumes": build_volumes(placement, kind),
    }
    return {name: value for name, value in pod.items() if value not in ([], {})}


def build_affinity(kind: Kind) -> dict[str, Any]:
    """Return the rules on labels of nodes; empty without any."""
    rules = [rule.model_dump(exclude_defaults=True) for rule in kind.node_affinity]
    terms = {"nodeSelectorTerms": [{"matchExpressions": rules}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}} if rules else {}


def build_volumes(placement: Placement, kind: Kind) -> list[dict[str, Any]]:
    """Return all places that a pod may write to."""
    cache = placement.data_cache
    shared = {"persistentVolumeClaim": {"claimName": cache.claim}} if cache.claim else None
    return [
        {"name": SHARED_MEMORY, "emptyDir": {"medium": "Memory", "sizeLimit": kind.shared_memory}},
        {"name": WORK, "emptyDir": {"sizeLimit": kind.scratch}},
        {"name": TEMPORARY, "emptyDir": {"sizeLimit": kind.scratch}},
        {"name": CACHE, **(shared or {"emptyDir": {"sizeLimit": cache.size}})},
    ]


def build_container(name: str, image: str, command: list[str], placement: Placement, kind: Kind) -> dict[str, Any]:
    """Return a container of such a pod, without resources.

    Args:
        name: In the pod.
        image: Reference.
        command: With all arguments; no shell.
        placement: Variables and cache.
        kind: Of the node.
    """
    places = {SHARED_MEMORY: "/dev/shm", WORK: WORK_DIR, TEMPORARY: "/tmp", CACHE: placement.data_cache.path}
    plain = {**kind.environment, CACHE_VARIABLE: placement.data_cache.path}
    sources = {"secretRef": placement.secret, "configMapRef": placement.config_map}
    return {
        "name": name,
        "image": image,
        "command": command,
        "workingDir": WORK_DIR,
        "env": [{"name": name, "value": value} for name, value in plain.items()],
        "envFrom": [{reference: {"name": one.name}} for reference, one in sources.items() if one.keys],
        "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in places.items()],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def build_resources(kind: Kind, num_accelerators: int) -> dict[str, Any]:
    """Return a container's cores, memory and GPUs, of which there are none where its kind has none."""
    gpus = {kind.accelerator.resource: str(num_accelerators)} if kind.accelerator and num_accelerators else {}
    return {
        "requests": {"cpu": kind.cpu.request, "memory": kind.memory.request, **gpus},
        "limits": {"cpu": kind.cpu.limit, "memory": kind.memory.limit, **gpus},
    }
