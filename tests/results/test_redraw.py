import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from tumor_cascade.cli import main
from tumor_cascade.results.catalog import find_stale_results
from tumor_cascade.results.redraw import redraw_pages

PAGES = Path(__file__).parents[2] / "docs" / "results"
DRAWN = ("gate", "honest", "leaky-study", "study-cpu")


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    """The committed pages of each kind that is drawn from facts, and one that is not."""
    for name in (*DRAWN, "leakage"):
        shutil.copytree(PAGES / name, tmp_path / name)
    return tmp_path


def read_texts(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.suffix in (".md", ".json")
    }


def test_redraw_pages__committed_pages_are_what_the_code_draws(pages: Path) -> None:
    before = read_texts(pages)
    done = CliRunner().invoke(main, ["results", "redraw", "--out", str(pages)])
    assert done.output.splitlines() == [f"Drawn: {pages / name / 'README.md'}" for name in DRAWN]
    assert read_texts(pages) == before


@pytest.mark.parametrize("name", DRAWN)
def test_redraw_pages__names_what_is_other_than_todays_preset(pages: Path, name: str) -> None:
    path = pages / name / "results.json"
    facts = json.loads(path.read_text())
    others = facts["overrides"]
    facts["params"]["train_segmenter"]["seed"] = 77
    path.write_text(json.dumps(facts))
    assert [line.rpartition("other ")[2] for line in find_stale_results(pages)] == ["params of train_segmenter"]
    redraw_pages(pages)
    assert find_stale_results(pages) == []
    assert sorted(json.loads(path.read_text())["overrides"]) == sorted([*others, "train_segmenter.seed=77"])
    assert "train_segmenter.seed=77" in (pages / name / "README.md").read_text()
