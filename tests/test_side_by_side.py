import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tumor_cascade.side_by_side import Command, CommandError, Step, run_steps


def python(code: str) -> Command:
    return (sys.executable, "-c", code)


MEET = "import pathlib, time; pathlib.Path('{0}').touch()\nwhile not pathlib.Path('{1}').exists(): time.sleep(0.01)"


def test_run_steps__side_by_side_and_after_what_they_need(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    look = f"import pathlib; print(sorted(path.name for path in pathlib.Path('{tmp_path}').iterdir()))"
    a, b = tmp_path / "a", tmp_path / "b"
    met = {"a": python(MEET.format(a, b)), "b": python(MEET.format(b, a))}  # neither ends without the other
    steps = {"last": Step({"look": python(look)}, frozenset({"meet"})), "meet": Step(met)}
    run_steps(steps, 2)
    assert "look: ['a', 'b']\n" in capfd.readouterr().err


def test_run_steps__one_at_a_time_in_their_order(capfd: pytest.CaptureFixture[str]) -> None:
    run_steps({name: Step({name: python(f"print('{name}', flush=True)")}) for name in "cab"}, 1)
    assert capfd.readouterr().out.split() == ["c", "a", "b"]


def test_run_steps__a_failure_stops_the_others(tmp_path: Path) -> None:
    started, never = tmp_path / "started", tmp_path / "never"
    commands = {
        "waits": python(f"import pathlib, time; pathlib.Path('{started}').touch(); time.sleep(600)"),
        "fails": python(f"{MEET.format(tmp_path / 'failing', started)}\nexit(3)"),
    }
    touch = python(f"import pathlib; pathlib.Path('{never}').touch()")
    before = time.monotonic()
    with pytest.raises(CommandError, match="ended with 3"):
        run_steps({"beside": Step(commands), "after": Step({"touch": touch}, frozenset({"beside"}))}, 2)
    assert time.monotonic() - before < 300
    assert not never.exists()


def test_run_steps__interrupted_stops_all(tmp_path: Path) -> None:
    pids = [tmp_path / name for name in "ab"]
    sleep = "import os, pathlib, time; pathlib.Path('{0}').write_text(str(os.getpid())); time.sleep(600)"
    commands = {path.name: python(sleep.format(path)) for path in pids}
    # Where the tests themselves run in the background, a shell has them ignore Ctrl-C.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from tumor_cascade.side_by_side import Step, run_steps; run_steps({{'all': Step({commands!r})}}, 2)"
    )
    with subprocess.Popen(python(code)) as running:
        while not all(path.exists() and path.read_text() for path in pids):
            assert running.poll() is None
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        assert running.wait(60) != 0
    assert not any(Path("/proc", path.read_text(), "exe").exists() for path in pids)


def test_run_steps__names_what_failed() -> None:
    with pytest.raises(CommandError, match=r"^exit\(4\) ended with 4; see above"):
        run_steps({"fails": Step({"fails": python("exit(4)")})}, 1)
