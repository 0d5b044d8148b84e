"""Is a version healthy? It is served in a process of its own and answers the golden inputs, timed and measured.

`python -m tumor_cascade.registry.health FOLDER` is that process: it serves a version's files as `tumor-cascade serve`
does, asks over HTTP, and prints what it measured as JSON.
"""

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumor_cascade.registry.policy import HealthPolicy
from tumor_cascade.registry.verdicts import Fact
from tumor_cascade.settings import PREFIX

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tumor_cascade.serving.client import Client
    from tumor_cascade.serving.service import Load

CASCADE_DIR, GOLDEN_DIR = "artifacts/cascade", "artifacts/golden"
HOST = "127.0.0.1"
MAX_BODY_BYTES = 2**24  # as `tumor-cascade serve` has it
START_TIMEOUT_S = 120.0
NUM_ERROR_CHARACTERS = 300


@dataclass(frozen=True)
class Health:
    """What was measured.

    Attributes:
        load_s: From files to a first answer, imports apart.
        seconds_per_slice: Of a second request.
        memory_mb: Peak of the process.
        probability_difference: Largest, to the golden answers.
        mask_difference_px: To the golden masks.
    """

    load_s: float
    seconds_per_slice: float
    memory_mb: float
    probability_difference: float
    mask_difference_px: int


# A version's files, the budget -> what was measured, or what went wrong.
HealthProbe = Callable[[Path, HealthPolicy], Health | str]


def probe_in_process(version: Path, budget: HealthPolicy) -> Health | str:
    """Serve a version in a process of its own; a process that takes much longer than its budget is killed."""
    # The golden answers come from a CPU; a GPU's sums differ by more than the budget allows.
    environment = {**os.environ, "no_proxy": HOST, "NO_PROXY": HOST, f"{PREFIX}DEVICE": "cpu"}
    command = [sys.executable, "-m", "tumor_cascade.registry.health", str(version)]
    timeout = START_TIMEOUT_S + 2 * budget.max_load_s + 20 * budget.max_seconds_per_slice
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout:.0f} s"
    if done.returncode:
        return f"the version does not answer: {done.stderr.strip()[-NUM_ERROR_CHARACTERS:]}"
    return Health(**json.loads(done.stdout.splitlines()[-1]))


def judge_health(found: Health | str, budget: HealthPolicy) -> Fact:
    """Hold what was measured to the budget."""
    rule = (
        f"loads within {budget.max_load_s:g} s, answers within {budget.max_seconds_per_slice:g} s per slice and "
        f"{budget.max_memory_mb:g} MB, gives its golden answers"
    )
    if isinstance(found, str):
        return Fact("health", "golden_answers", "Health", rule, "", (found,), {})
    limits = (
        (found.load_s, budget.max_load_s, "s to load"),
        (found.seconds_per_slice, budget.max_seconds_per_slice, "s per slice"),
        (found.memory_mb, budget.max_memory_mb, "MB of memory"),
        (found.probability_difference, budget.max_probability_difference, "difference of a probability"),
        (found.mask_difference_px, budget.max_mask_difference_px, "px of difference in masks"),
    )
    faults = tuple(f"{value:.4g} {what}, more than {limit:g}" for value, limit, what in limits if value > limit)
    finding = (
        f"golden answers given; {found.load_s:.2f} s to load, {found.seconds_per_slice:.3f} s per slice, "
        f"{found.memory_mb:.0f} MB"
    )
    return Fact("health", "golden_answers", "Health", rule, finding, faults, asdict(found))


def measure_health(version: Path) -> Health:
    """Serve a version's cascade, ask for the golden answers twice, and measure it."""
    from tumor_cascade.registry.golden import measure_deviation, read_golden
    from tumor_cascade.serving.client import Client
    from tumor_cascade.serving.server import open_folder

    golden = read_golden(version / GOLDEN_DIR)
    started = time.perf_counter()
    with serve_meanwhile(open_folder(version / CASCADE_DIR)) as url:
        client = Client(url)
        ask(client, golden["images"])
        loaded = time.perf_counter()
        answers = ask(client, golden["images"])
        ended = time.perf_counter()
    deviation = measure_deviation(golden, answers)
    return Health(
        load_s=loaded - started,
        seconds_per_slice=(ended - loaded) / len(golden["images"]),
        memory_mb=measure_peak_mb(),
        probability_difference=deviation.probability,
        mask_difference_px=deviation.mask_px,
    )


@contextmanager
def serve_meanwhile(load: "Load") -> Iterator[str]:
    """Run the application of `tumor-cascade serve` on a free port while the block runs; yield its address."""
    from tumor_cascade.serving.server import build_server, listen
    from tumor_cascade.serving.service import Service

    listener, service = listen(HOST, 0), Service(MAX_BODY_BYTES, max_requests=1)
    server = build_server(service)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        service.load(load)
        yield f"http://{HOST}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        service.close()


def ask(client: "Client", images: "NDArray[np.uint8]") -> dict[str, Any]:
    """Return `probabilities` and `masks` that a server gives the slices of one volume `(Z, 3, H, W)`."""
    import numpy as np

    answers = client.predict(list(images), is_volume=True)
    return {
        "probabilities": np.array([answer.probability for answer in answers]),
        "masks": np.stack([answer.mask for answer in answers if answer.mask is not None]),
    }


def measure_peak_mb() -> float:
    """Return the most memory that this process has used, in MB.

    Linux hands `ru_maxrss` of the starting process on to a started one, so its own record is read where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return float(lines["VmHWM"].split()[0]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    print(json.dumps(asdict(measure_health(Path(sys.argv[1])))))
