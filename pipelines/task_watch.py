"""What containers of a run really did: when each started and ended, and with which exit code, as the engine tells it.

Kubeflow's local runner takes a container that vanishes before it is asked for its end as a success.
"""

import threading
import time
from dataclasses import dataclass
from typing import Any

LABEL = "tumor-cascade.run"
END_TIMEOUT_S = 10.0  # between a container's end and its event
SIGNAL_BASE = 128


@dataclass
class Attempt:
    """One container.

    Attributes:
        task: Its stage, and the fold where it has one.
        container: Its id.
        started: Seconds since 1970.
        ended: The same; None while it runs.
        exit_code: None while it runs.
    """

    task: str
    container: str
    started: float
    ended: float | None = None
    exit_code: int | None = None

    @property
    def seconds(self) -> float:
        """How long it ran, or has run."""
        return (self.ended or time.time()) - self.started

    def describe_end(self) -> str:
        """Return how it ended, for people."""
        if self.exit_code is None:
            return "running"
        killed = self.exit_code > SIGNAL_BASE
        return (
            ""
            if self.exit_code == 0
            else f"killed by {self.exit_code - SIGNAL_BASE}"
            if killed
            else (f"exit code {self.exit_code}")
        )


class TaskWatch:
    """Listens to the engine's events of one run from its creation to `close`.

    Args:
        client: Of the engine.
        run_id: Value of the label `LABEL` on the run's containers.
    """

    def __init__(self, client: Any, run_id: str) -> None:
        self.client = client
        self.attempts: list[Attempt] = []
        filters = {"type": "container", "label": f"{LABEL}={run_id}", "event": ["start", "die"]}
        self.events = client.events(decode=True, filters=filters)
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self) -> None:
        for event in self.events:
            container, moment = event["Actor"]["ID"], event["timeNano"] / 1e9
            if event["Action"] == "start":
                self.attempts.append(Attempt(self._find_task(container), container, moment))
                continue
            for attempt in self.attempts:
                if attempt.container == container:
                    attempt.exit_code, attempt.ended = int(event["Actor"]["Attributes"]["exitCode"]), moment

    def _find_task(self, container: str) -> str:
        import docker

        try:
            return name_task(self.client.api.inspect_container(container)["Config"]["Cmd"])
        except docker.errors.NotFound:  # it has ended and is gone already
            return container[:12]

    def close(self) -> list[Attempt]:
        """Stop listening once all containers that have started have ended; return them in the order of their start."""
        deadline = time.monotonic() + END_TIMEOUT_S
        while any(attempt.ended is None for attempt in self.attempts) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.events.close()
        return self.attempts


def name_task(command: list[str]) -> str:
    """Return stage and fold from a task's command line."""
    stage = command[1] if len(command) > 1 else " ".join(command)
    return f"{stage}, fold {command[command.index('--fold') + 1]}" if "--fold" in command else stage


def format_attempts(attempts: list[Attempt]) -> list[str]:
    """Return a table: seconds, task, and how it ended where that was not well; a last line with the sum."""
    lines = [f"{one.seconds:8.1f} s  {one.task:<26}{one.describe_end()}".rstrip() for one in attempts]
    return [*lines, f"{sum(one.seconds for one in attempts):8.1f} s  in containers"]
