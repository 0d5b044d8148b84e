"""Tracking again and again: a training while it runs, or a whole folder until stopped."""

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from tumor_cascade.registry.executions import is_running, read_execution
from tumor_cascade.registry.progress import find_running
from tumor_cascade.registry.tracking import track_artifacts, track_execution
from tumor_cascade.settings import get_runs_dir
from tumor_cascade.storage import CONTENT_NAME

WATCH_INTERVAL_S = 5.0


def watch_execution(path: Path) -> None:
    """Project a training again and again while it runs; never ends by an error, only with the process it follows."""
    execution = read_execution(path)
    if execution is None:
        return
    os.nice(10)
    seen: Any = None
    while is_running(execution.pid) and path.exists():
        progress = find_running(execution.stage, execution.fold, execution.started)
        news = progress and (progress.header, len(progress.epochs))
        if news != seen and _attempt(lambda: track_execution(path), execution.stage):
            seen = news
        time.sleep(WATCH_INTERVAL_S)


def watch_artifacts(artifacts: Path, params_path: Path) -> None:
    """Project trainings that run and outputs as they appear, until stopped."""
    seen: Any = None
    while True:
        for path in get_runs_dir().glob("*/running-*.json"):
            execution = read_execution(path)
            if execution is not None and execution.fold is not None and is_running(execution.pid):
                _attempt(partial(track_execution, path), execution.stage)
        files = [*artifacts.glob(f"*/*/{CONTENT_NAME}"), *artifacts.glob(f"*/*/*/{CONTENT_NAME}")]
        news = [(path, path.stat().st_mtime) for path in files if path.exists()]
        if news and news != seen and _attempt(lambda: track_artifacts(artifacts, params_path), str(artifacts)):
            seen = news
        time.sleep(WATCH_INTERVAL_S)


def _attempt(act: Callable[[], object], what: str) -> bool:
    """Do something that may fail and will be tried again; say whether it worked."""
    try:
        act()
    except Exception as error:
        click.echo(f"{what}: {type(error).__name__}: {error}; trying again", err=True)
        return False
    return True
