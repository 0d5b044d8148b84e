"""Is a version healthy? It answers the golden inputs in a process of its own, timed and measured.

`python -m tumor_cascade.registry.health FOLDER` is that process: it reads a version's files as a server does and prints
what it measured as JSON.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tumor_cascade.registry.policy import HealthPolicy
from tumor_cascade.registry.verdicts import Fact

CASCADE_DIR, GOLDEN_DIR = "artifacts/cascade", "artifacts/golden"
START_TIMEOUT_S = 120.0
NUM_ERROR_CHARACTERS = 300


@dataclass(frozen=True)
class Health:
    """What was measured.

    Attributes:
        load_s: From files to a first answer, imports apart.
        seconds_per_slice: On a second run.
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
    """Run a version in a process of its own; a process that takes much longer than its budget is killed."""
    command = [sys.executable, "-m", "tumor_cascade.registry.health", str(version)]
    timeout = START_TIMEOUT_S + 2 * budget.max_load_s + 20 * budget.max_seconds_per_slice
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
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
    """Load a version's cascade, answer the golden inputs twice, and measure it."""
    from tumor_cascade.product import load_cascade
    from tumor_cascade.registry.golden import answer, measure_deviation, read_golden

    golden = read_golden(version / GOLDEN_DIR)
    images = golden["images"]
    started = time.perf_counter()
    cascade = load_cascade(version / CASCADE_DIR)
    answer(cascade, images)
    loaded = time.perf_counter()
    answers = answer(cascade, images)
    deviation = measure_deviation(golden, answers)
    return Health(
        load_s=loaded - started,
        seconds_per_slice=(time.perf_counter() - loaded) / len(images),
        memory_mb=measure_peak_mb(),
        probability_difference=deviation.probability,
        mask_difference_px=deviation.mask_px,
    )


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
