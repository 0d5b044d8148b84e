"""Scores of the ladder's rows, kept beside its page: a climb may be spread over days and machines.

Trained networks stay where they were trained. What a row is judged by, a line per slice, goes with the page and counts
for as long as its content is the same: training params, splits, data, code and lock.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tumor_cascade.content import describe_content
from tumor_cascade.results.ladder import Workplace, describe_judge, locate_networks, read_slices, split
from tumor_cascade.results.ladder_rows import Row
from tumor_cascade.results.pages import FACTS_NAME, describe_today

COLUMNS = (
    *("patient_id", "has_tumor", "tumor_px", "segmenter_px", "segmenter_hit_px", "segmenter_score"),
    *("classifier_logit", "is_positive"),
)
DIGITS = 6


@dataclass(frozen=True)
class RowScores:
    """What is known of a row that has been run.

    Attributes:
        slices: A line per slice with `COLUMNS`, out-of-fold.
        making: `content_id` of the scores, and the hardware and date that made them.
    """

    slices: pd.DataFrame
    making: dict[str, Any]


def identify_scores(workplace: Workplace, row: Row) -> str:
    """Return the `content_id` of a row's scores; it is known before anything is trained."""
    params = row.read_params()
    networks = {name: root.name for name, root in locate_networks(workplace, row).items()}
    given = {"folds": row.folds, "networks": networks, **describe_judge(row)}
    inputs = {"manifest": workplace.manifest, "splits": split(workplace, params)}
    content_id: str = describe_content("assemble_cascade", given, inputs)["content_id"]
    return content_id


def collect_scores(workplace: Workplace, rows: tuple[Row, ...], page_dir: Path) -> dict[str, RowScores]:
    """Return the scores of all rows that have been run, here or on the machine that wrote the page last, by row.

    Args:
        workplace: Of the ladder.
        rows: All of it.
        page_dir: Folder of the ladder's page; it may not exist yet.
    """
    facts_path = page_dir / FACTS_NAME
    facts = json.loads(facts_path.read_text(encoding="utf-8")) if facts_path.exists() else {"rows": []}
    makings = {one["name"]: one.get("making") for one in facts["rows"]}
    found = {}
    for row in rows:
        content_id, kept = identify_scores(workplace, row), makings.get(row.name)
        if kept is not None and kept["content_id"] == content_id:
            found[row.name] = RowScores(pd.read_csv(page_dir / f"{row.name}.csv"), kept)
        elif (slices := read_slices(workplace, row)) is not None:
            table = slices[list(COLUMNS)].round(DIGITS)
            found[row.name] = RowScores(table, {"content_id": content_id, **describe_today()})
    return found
