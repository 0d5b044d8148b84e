"""A placement put on tasks: resources, node, retries, environment, volumes."""

from kfp import dsl, kubernetes

from pipelines.placement import CACHE_VARIABLE, DataCache, Kind, Placement


def configure_pipeline(placement: Placement) -> dsl.PipelineConfig:
    """Return what holds for a run as a whole."""
    pipeline = placement.pipeline
    return dsl.PipelineConfig(ttl_seconds_after_finished=pipeline.ttl_s, active_deadline_seconds=pipeline.deadline_s)


def place(task: dsl.PipelineTask, placement: Placement, command: str) -> None:
    """Put all that a placement says of a command on a task.

    Args:
        task: Of a component.
        placement: The whole of it.
        command: What the task runs: one of `tasks`.
    """
    kind = placement.kinds[placement.tasks[command]]
    set_resources(task, kind)
    set_node(task, kind)
    set_environment(task, placement, kind)
    set_volumes(task, placement.data_cache, kind)
    if user := placement.pipeline.user_id:
        kubernetes.set_security_context(task, run_as_user=user, run_as_group=user, run_as_non_root=True)
    kubernetes.set_timeout(task, kind.timeout_s)
    retries = kind.retries
    task.set_retry(retries.number, f"{retries.backoff_s}s", retries.factor, f"{retries.within_s}s")


def set_resources(task: dsl.PipelineTask, kind: Kind) -> None:
    """Ask for cores, memory and GPUs."""
    task.set_cpu_request(kind.cpu.request).set_cpu_limit(kind.cpu.limit)
    task.set_memory_request(kind.memory.request).set_memory_limit(kind.memory.limit)
    if kind.accelerator is not None:
        task.set_accelerator_type(kind.accelerator.resource).set_accelerator_limit(kind.accelerator.number)


def set_node(task: dsl.PipelineTask, kind: Kind) -> None:
    """Say which nodes a task may run on."""
    for key, value in kind.labels.items():
        kubernetes.add_pod_label(task, key, value)
    for key, value in kind.node_selector.items():
        kubernetes.add_node_selector(task, key, value)
    if kind.node_affinity:
        kubernetes.add_node_affinity(
            task, match_expressions=[rule.model_dump(exclude_defaults=True) for rule in kind.node_affinity]
        )
    for toleration in kind.tolerations:
        kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))


def set_environment(task: dsl.PipelineTask, placement: Placement, kind: Kind) -> None:
    """Give a task its variables, and what pulls its image."""
    for name, value in {**kind.environment, CACHE_VARIABLE: placement.data_cache.path}.items():
        task.set_env_variable(name, value)
    secret, config_map = placement.secret, placement.config_map
    kubernetes.use_secret_as_env(task, secret.name, {key: key for key in secret.keys})
    kubernetes.use_config_map_as_env(task, config_map.name, {key: key for key in config_map.keys})
    if placement.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, placement.image_pull_secrets)


def set_volumes(task: dsl.PipelineTask, cache: DataCache, kind: Kind) -> None:
    """Give a task shared memory, room for temporary files and a place for packed volumes."""
    kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit=kind.shared_memory)
    kubernetes.empty_dir_mount(task, "scratch", "/tmp", size_limit=kind.scratch)
    if cache.claim:
        kubernetes.mount_pvc(task, cache.claim, cache.path)
    else:
        kubernetes.empty_dir_mount(task, "data-cache", cache.path, size_limit=cache.size)
