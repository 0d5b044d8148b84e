"""Pages that are not about one run."""

import json
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from tumor_cascade.results.catalog import README_MARKS, find_stale_results, redraw_table
from tumor_cascade.results.pages import describe_making, format_score, render_markdown, write_page
from tumor_cascade.storage import write_json

MODULE = "tumor_cascade.data.thumbnails"


def make_page(out_dir: Path) -> Path:
    facts = describe_making("one", "tumor-cascade results one", [MODULE, "split_data"])
    return write_page(out_dir, facts, "# One\n", {"picture": b"png"})


def test_write_page__page_figures_and_facts(tmp_path: Path) -> None:
    page = make_page(tmp_path)
    assert page == tmp_path / "one" / "README.md"
    assert page.read_text() == "# One\n"
    assert (tmp_path / "one" / "picture.png").read_bytes() == b"png"
    facts = json.loads((tmp_path / "one" / "results.json").read_text())
    assert set(facts) == {"name", "command", "date", "hardware", "lock", "code"}
    assert find_stale_results(tmp_path) == []


def test_find_stale_results__names_the_module_that_has_changed(tmp_path: Path) -> None:
    path = make_page(tmp_path).parent / "results.json"
    facts = json.loads(path.read_text())
    facts["code"][MODULE] = "0"
    write_json(path, facts)
    [line] = find_stale_results(tmp_path)
    assert line.endswith(f"is stale: other code of {MODULE}")


def test_find_stale_results__judges_every_committed_page() -> None:
    committed = Path(__file__).resolve().parents[2] / "docs" / "results"
    pages = {path.parent / "README.md" for path in committed.glob("*/results.json")}
    assert {path.parent.name for path in pages} >= {"gate", "ladder", "leakage", "leaky-study", "lgg-cpu", "phantom"}
    stale = {Path(line.partition(" is stale")[0]) for line in find_stale_results(committed)}
    assert stale <= pages


def test_redraw_table__leaves_out_pages_that_are_not_about_a_run(tmp_path: Path) -> None:
    make_page(tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text("\n".join(README_MARKS))
    redraw_table(readme, tmp_path)
    assert "one" not in readme.read_text()


def test_render_markdown__every_value_has_to_be_given() -> None:
    with pytest.raises(UndefinedError):
        render_markdown("pages.no_learning.md.j2")


@pytest.mark.parametrize(("score", "text"), [(0.98765, "0.988"), (0.0, "0.000"), (None, "-")])
def test_format_score__three_digits_or_a_dash(score: float | None, text: str) -> None:
    assert format_score(score) == text
