"""docs/faults.md: planted faults and the exact message that each gets. UPDATE_FAULTS=1 writes it again."""

import contextlib
import os
import tempfile
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from faults import FAULTS, Fault, name_stage
from tumor_cascade.cli import main
from tumor_cascade.configuration import configure
from tumor_cascade.stages.interface import INTERFACES

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"
TITLE = """# Faults and their messages

What goes wrong, and the exact message it gets. `UPDATE_FAULTS=1 pytest tests/e2e/test_faults_page.py` writes this page:
it plants each fault and runs the command. Without the variable the same test fails where a message differs.

A message says what is wrong with which value, where, the rule, and what to do. All violations are collected before
anything stops; nothing is written, and what stood in the output folder stays. Exit codes: 2 wrong params or flags,
3 data or artifacts that break their contract. Anything else is 1: with a message a server, a run or a check that
failed, with a traceback a bug.
"""

pytestmark = pytest.mark.e2e


def meet(fault: Fault) -> Result:
    """Plant a fault in an empty folder with the params of the demo and run its command there."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # zipfile on the faults that it is asked to write
        Path("data/raw").mkdir(parents=True)
        configure("phantom", Path("params.yaml"))
        fault.plant()
        return CliRunner().invoke(main, list(fault.arguments), prog_name="tumor-cascade")


def shorten(arguments: tuple[str, ...]) -> str:
    """Return a command; of a whole stage's without the flags for its folders, which say nothing about the fault."""
    if arguments[0] in INTERFACES and arguments == name_stage(arguments[0]):
        arguments = arguments[: 3 if INTERFACES[arguments[0]].has_fold else 1]
    command = " ".join(f"'{part}'" if " " in part else part for part in arguments)
    return f"tumor-cascade {command}"


def render_fault(fault: Fault) -> str:
    result = meet(fault)
    assert result.exception is None or isinstance(result.exception, SystemExit), f"{fault.title}: {result.exception!r}"
    message = "\n".join(line.rstrip() for line in result.stderr.strip().splitlines())
    assert message, f"{fault.title}: no message"
    return (
        f"### {fault.title}\n\n`{shorten(fault.arguments)}`, exit code {result.exit_code}\n\n```text\n{message}\n```\n"
    )


def test_faults_page__says_what_each_fault_gets() -> None:
    parts = [TITLE]
    for section, faults in FAULTS.items():
        parts += [f"## {section}\n", *(render_fault(fault) for fault in faults)]
    page = "\n".join(parts)
    if os.environ.get("UPDATE_FAULTS"):
        PAGE.write_text(page, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page, "docs/faults.md is stale; UPDATE_FAULTS=1 writes it again"


def test_faults_page__no_fault_passes_unless_it_is_a_warning() -> None:
    page = PAGE.read_text(encoding="utf-8")
    sections = page.split("\n### ")[1:]
    for section in sections:
        is_warning = "(a warning" in section.splitlines()[0]
        assert ("exit code 0" in section) == is_warning, section.splitlines()[0]
        assert is_warning or "exit code 2" in section or "exit code 3" in section, section.splitlines()[0]
        assert "Traceback" not in section
    assert len(sections) == sum(map(len, FAULTS.values()))
