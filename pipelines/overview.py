"""A compiled pipeline in a table: what runs after what, where, and how often it is tried. It heads each YAML file."""

import re
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import Any

import yaml

HEADINGS = ("task", "cpu", "memory", "gpu", "retries", "timeout", "after")


def describe_package(text: str) -> str:
    """Return the table of a compiled pipeline as YAML comments.

    Args:
        text: Its two documents.
    """
    specification, platform = yaml.safe_load_all(text)
    rows = [HEADINGS, *list_rows(specification, platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "".join(f"# {line}\n" for line in lines)


def list_rows(specification: dict[str, Any], settings: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield a row per task, in an order in which they can run."""
    tasks = specification["root"]["dag"]["tasks"]
    before = {name: set(task.get("dependentTasks", [])) for name, task in sorted(tasks.items())}
    for name in TopologicalSorter(before).static_order():
        task = tasks[name]
        label = specification["components"][task["componentRef"]["name"]]["executorLabel"]
        resources = specification["deploymentSpec"]["executors"][label]["container"]["resources"]
        gpus = resources.get("accelerator")
        yield (
            task["taskInfo"]["name"],  # with its fold
            f"{resources['resourceCpuRequest']}..{resources['resourceCpuLimit']}",
            f"{resources['resourceMemoryRequest']}..{resources['resourceMemoryLimit']}",
            f"{gpus['resourceCount']} {gpus['resourceType']}" if gpus else "-",
            str(task.get("retryPolicy", {}).get("maxRetryCount", 0)),
            f"{int(settings[label]['activeDeadlineSeconds']) / 3600:g} h",
            name_last(name, before),
        )


def name_last(name: str, before: dict[str, set[str]]) -> str:
    """Return what a task waits for, without what that waits for itself; tasks of one component are counted."""
    direct = before[name]
    last = direct.difference(*(before[one] for one in direct))
    counts = Counter(re.sub(r"-[0-9]+$", "", one) for one in last)
    return ", ".join(f"{number} x {one}" if number > 1 else one for one, number in sorted(counts.items())) or "-"
