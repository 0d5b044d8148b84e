"""The Docker engine of this machine: its image, a network without a way out, and how containers are confined."""

import contextlib
import os
from pathlib import Path
from typing import Any

from pipelines.task_watch import LABEL
from tumor_cascade.errors import TumorCascadeError

NETWORK = "tumor-cascade"
USER_ID = 1000  # where the caller is root; else the caller's own, who is to read the outputs
NUM_PROCESSES = 512
TEMPORARY_SIZE = "4g"  # of /tmp, in memory: checkpoints on their way to the store, and caches of libraries
# Of the caller's environment: sums of floats depend on the number of threads.
PASSED_ON = ("OMP_NUM_THREADS", "TUMOR_CASCADE_NUM_THREADS")


class EngineError(TumorCascadeError):
    """No Docker engine, or it lacks what a run needs."""


def connect_engine() -> Any:
    """Return a client of the engine that the environment names.

    Raises:
        EngineError: None answers.
    """
    import docker

    try:
        client = docker.from_env()
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise EngineError(
            f"no Docker engine answers ({error}). Install and start one (on Debian: apt-get install docker.io), or "
            "name it with DOCKER_HOST."
        ) from error
    return client


def find_image(client: Any, image: str) -> str:
    """Return the id of an image that the engine has: nothing is pulled.

    Raises:
        EngineError: It has none of that name.
    """
    import docker

    if ":" not in image:
        raise EngineError(f"image {image} has no tag; the local runner wants name:tag, as in tumor-cascade:cpu.")
    try:
        return str(client.images.get(image).id)
    except docker.errors.ImageNotFound as error:
        raise EngineError(f"the Docker engine has no image {image}; build it: make image, or name another.") from error


def open_network(client: Any) -> str:
    """Return the address of this machine in the runs' network, which is made where there is none.

    It is internal: containers in it reach each other and this machine, and nothing else.

    Raises:
        EngineError: There is a network of that name that leads elsewhere.
    """
    found = client.networks.list(names=[f"^{NETWORK}$"])
    network = found[0] if found else client.networks.create(NETWORK, driver="bridge", internal=True)
    network.reload()
    if not network.attrs["Internal"]:
        raise EngineError(
            f"the Docker network {NETWORK} is not internal; remove it: docker network rm {NETWORK}. A run makes "
            "its own."
        )
    return str(network.attrs["IPAM"]["Config"][0]["Gateway"])


def confine(memory: str, variables: dict[str, str], run_id: str) -> dict[str, Any]:
    """Return the arguments of a container that may write to /tmp and to its run's folder, and do little else.

    Args:
        memory: Limit, with all that lies in /tmp, e.g. `6g`.
        variables: Environment.
        run_id: Goes into a label.
    """
    own = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {
        "entrypoint": [],  # a component's command is the whole command line, as on a cluster
        "user": ":".join(map(str, find_user())),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "tmpfs": {"/tmp": f"mode=1777,size={TEMPORARY_SIZE}"},
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": NUM_PROCESSES,
        "network": NETWORK,
        "environment": {**variables, **own},
        "labels": {LABEL: run_id},
    }


def stop_containers(client: Any, run_id: str) -> None:
    """Kill what still runs of a run."""
    import docker

    for container in client.containers.list(filters={"label": f"{LABEL}={run_id}"}):
        with contextlib.suppress(docker.errors.APIError):  # it has just ended
            container.kill()


def find_user() -> tuple[int, int]:
    """Return user and group of the containers: the caller's, and no root."""
    return (os.getuid(), os.getgid()) if os.getuid() else (USER_ID, USER_ID)


def make_run_folder(path: Path) -> Path:
    """Return a new folder, absolute, that the containers' user may write to."""
    path.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        os.chown(path, *find_user())
    return path.absolute()
