"""Promoters in processes of their own: killed after any step that others can see, or twenty at once.

Run as a script, so that what takes seconds to import is imported once and every promoter is a fork of it. Its last line
is JSON for the test.
"""

import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from candidates import judge_as, read_name, write_candidate
from tumor_cascade.registry.aliases import ALIASES
from tumor_cascade.registry.entries import PolicyRef, State
from tumor_cascade.registry.promotion import Judge, Judgement, Stored, promote
from tumor_cascade.registry.shared import Shared, open_shared
from tumor_cascade.registry.upkeep import audit, recover
from tumor_cascade.registry.versions import CLASSIFIER, PRODUCT, SEGMENTER, ModelRegistry

POLICY = PolicyRef(name="paper", sha256="4" * 64)
DATABASE, LEDGER = "mlflow.db", "promotions"
# What others can see of a promoter, on the registry's client and on the ledger's store.
STEPS = ("create_", "delete_", "finalize_", "log_", "set_", "update_", "put_if_absent")


class Steps:
    """Counts the steps of a process and kills it right after one of them.

    Args:
        fatal: Number of the last step; None: live.
    """

    def __init__(self, fatal: int | None) -> None:
        self.fatal, self.names = fatal, list[str]()

    def watch(self, target: Any) -> Any:
        """Return an object that does all the target does and counts what others can see."""
        return Watched(target, self)

    def end(self, name: str) -> None:
        """Count a step that has been done."""
        self.names.append(name)
        if len(self.names) == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """An object under watch."""

    def __init__(self, target: Any, steps: Steps) -> None:
        self._target, self._steps = target, steps

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not name.startswith(STEPS):
            return value

        def call(*arguments: Any, **named: Any) -> Any:
            result = value(*arguments, **named)
            self._steps.end(name)
            return result

        return call


def fork(work: Callable[[], Any]) -> int:
    """Start a process that does the work and writes what it returns into a file of its number; return its number."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        Path(f"result-{os.getpid()}.json").write_text(json.dumps(work()))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(pid: int) -> Any:
    """Return what a forked process has returned, or `killed`."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return "killed"
    assert os.WEXITSTATUS(status) == 0, "a promoter failed, see above"
    path = Path(f"result-{pid}.json")
    result = json.loads(path.read_text())
    path.unlink()
    return result


def run(work: Callable[[], Any]) -> Any:
    return wait(fork(work))


def offer(name: str, judge: Judge, fatal: int | None = None) -> list[str]:
    """Promote a candidate of the current folder; return the steps it took."""
    steps, shared = Steps(fatal), open_shared()
    registry = ModelRegistry(steps.watch(shared.registry.client), shared.registry.experiment_id)
    promote(registry, steps.watch(shared.store), Path(name), POLICY, judge)
    return steps.names


def describe() -> dict[str, Any]:
    """Return what the registry shows and what an audit finds."""
    shared = open_shared()
    aliases, _ = shared.registry.read_model()
    return {
        "aliases": {name: aliases.get(name) for name in ALIASES},
        "num_entries": len(shared.read_chain().entries),
        "versions": [len(shared.registry.list_versions(name)) for name in (PRODUCT, CLASSIFIER, SEGMENTER)],
        "findings": audit(shared.registry, shared.store),
    }


def recover_and_describe() -> dict[str, Any]:
    shared = open_shared()
    recover(shared.registry, shared.store)
    return describe()


def promote_anyone(candidate: Stored, champion: Stored | None, state: State) -> Judgement:
    return judge_as("promote")


def promote_higher(candidate: Stored, champion: Stored | None, state: State) -> Judgement:
    """Promote a candidate whose name is a higher number than the champion's."""
    numbers = [int(read_name(one.folder / "artifacts/cascade")) for one in (candidate, champion) if one is not None]
    return judge_as("promote" if champion is None or numbers[0] > numbers[1] else "refuse")


def kill_everywhere() -> dict[str, Any]:
    """Promote a second champion and kill its promoter after each step; say how each kill ended.

    From the step on that makes the version, each promoter starts from there: it would only find what is registered.
    """
    for name in ("old", "new"):
        write_candidate(Path(name), name)
    run(lambda: offer("old", promote_anyone))
    save("unregistered")
    steps = run(lambda: offer("new", promote_anyone))
    num_registering = len(steps) - steps[::-1].index("create_model_version")
    ends = [kill("unregistered", number) for number in range(1, num_registering + 1)]
    restore("unregistered")
    run(lambda: offer("new", promote_anyone, fatal=num_registering))
    save("registered")
    ends += [kill("registered", number) for number in range(1, len(steps) - num_registering + 1)]
    restore("registered")
    retried = run(lambda: [offer("new", promote_anyone), describe()][1])
    return {"steps": steps, "ends": ends, "retried": retried}


def kill(state: str, number: int) -> dict[str, Any]:
    """Kill a promoter after a step; return what a recovery makes of it."""
    restore(state)
    assert run(lambda: offer("new", promote_anyone, fatal=number)) == "killed"
    return dict(run(recover_and_describe))


def warm_up() -> None:
    """Promote once elsewhere, so that forks find imported what a promotion imports on its way."""
    here, environment = Path.cwd(), dict(os.environ)
    warm = here / "warm"
    warm.mkdir()
    shutil.copyfile(DATABASE, warm / DATABASE)
    os.chdir(warm)
    os.environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{warm / DATABASE}", "TUMOR_CASCADE_LEDGER": str(warm / LEDGER)}
    write_candidate(Path("first"), "first")
    offer("first", promote_anyone)
    describe()
    os.chdir(here)
    os.environ.clear()
    os.environ |= environment


def save(state: str) -> None:
    """Keep database and ledger as they are, under a name."""
    Path(state).mkdir()
    shutil.copyfile(DATABASE, Path(state, DATABASE))
    shutil.copytree(LEDGER, Path(state, LEDGER))


def restore(state: str) -> None:
    """Put database and ledger back; artifacts that a killed promoter has left stay."""
    shutil.copyfile(Path(state, DATABASE), DATABASE)
    shutil.rmtree(LEDGER)
    shutil.copytree(Path(state, LEDGER), LEDGER)


def race(num_promoters: int, num_candidates: int) -> dict[str, Any]:
    """Have promoters run at the same time, each candidate offered by as many; say what they leave."""
    names = [str(number) for number in range(num_candidates)]
    for name in names:
        write_candidate(Path(name), name)
    offered = [names[number % num_candidates] for number in range(num_promoters)]
    pids = [fork(lambda name=name: offer(name, promote_higher)) for name in offered]
    for pid in pids:
        wait(pid)

    def describe_race() -> dict[str, Any]:
        shared: Shared = open_shared()
        chain = shared.read_chain()
        refs = {one.ref.version: one.ref for one in shared.registry.list_versions(PRODUCT)}
        folder = shared.registry.download(PRODUCT, chain.state.champion.version, Path.cwd())
        return {
            **describe(),
            "kinds": [entry.kind for entry in chain.entries],
            "judged": sorted({entry.to.version for entry in chain.entries}),
            "registered": sorted(refs),
            "champion": read_name(folder / "artifacts/cascade"),
            "is_champion_known": refs[chain.state.champion.version] == chain.state.champion,
        }

    return run(describe_race)


if __name__ == "__main__":
    warm_up()
    result = kill_everywhere() if sys.argv[1] == "kill" else race(*map(int, sys.argv[2:]))
    print(json.dumps(result))
