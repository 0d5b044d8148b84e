"""The rows of the ladder, as ladder.yaml says: each a preset with overrides, one change to the row that it is on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tumor_cascade.configuration import build_preset
from tumor_cascade.errors import ParamsError
from tumor_cascade.params import Params, parse_params

LADDER_PATH = Path(__file__).with_name("ladder.yaml")


@dataclass(frozen=True)
class Row:
    """One step.

    Attributes:
        name: In commands and folders.
        title: In tables.
        base: Name of the row that it changes; None for a start.
        preset: What its overrides are put on.
        folds: That it is trained and judged on.
        overrides: `section.key=value` each, all changes up to this row.
        changes: Its own, to its base.
        is_branch: Whether its base is another than the row above.
        is_further: Whether it is run only when asked for.
        start: The row whose segmenter's encoder the classifier starts from; None for what params say.
        is_start_restored: Whether that encoder has learned to restore images, without labels, instead of masks.
        averaged: Rows whose segmenters are averaged with its own.
        random_start: Name of the row with the same networks, trained as long, all from random weights; None where
            there is none, or this is it.
    """

    name: str
    title: str
    base: str | None
    preset: str
    folds: list[int]
    overrides: tuple[str, ...]
    changes: dict[str, Any]
    is_branch: bool
    is_further: bool
    start: "Row | None"
    is_start_restored: bool
    averaged: tuple["Row", ...]
    random_start: str | None

    @property
    def starts_classifier(self) -> bool:
        """Whether what it says of weights to start from is about the classifier."""
        return self.start is not None or "train_classifier.initialization" in self.changes

    def read_params(self) -> Params:
        """Return the row's params, checked."""
        overrides = [*self.overrides, f"assemble_cascade.folds={self.folds}"]
        return parse_params(build_preset(self.preset, overrides), f"ladder row {self.name}")


@dataclass(frozen=True)
class Ladder:
    """All rows in order, and the folds that they are trained on unless a row names its own."""

    folds: list[int]
    rows: tuple[Row, ...]

    def select(self, names: tuple[str, ...], *, has_further: bool) -> list[Row]:
        """Return the named rows; without names all, further ones where asked for.

        Raises:
            ParamsError: A name is unknown.
        """
        known = [row.name for row in self.rows]
        if unknown := [name for name in names if name not in known]:
            raise ParamsError(f"ladder row {', '.join(unknown)} is unknown; must be one of {', '.join(known)}.")
        if names:
            return [row for row in self.rows if row.name in names]
        return [row for row in self.rows if has_further or not row.is_further]


def read_ladder(path: Path = LADDER_PATH) -> Ladder:
    """Return the ladder of a file."""
    values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    rows: dict[str, Row] = {}
    changes: dict[str, dict[str, Any]] = {}
    for value in values["rows"]:
        name, last = value["name"], list(rows)[-1] if rows else None
        is_start = "preset" in value or last is None or not changes[last]
        base = None if is_start else value.get("on", last)
        before = {} if "preset" in value else values["start"] if base is None else changes[base]
        changes[name] = {**before, **value.get("changes", {})}
        overrides = tuple(f"{key}={change}" for key, change in changes[name].items())
        rows[name] = Row(
            name=name,
            title=value["title"],
            base=base,
            preset=value.get("preset", values["preset"]),
            folds=value.get("folds", values["folds"]),
            overrides=overrides,
            changes=value.get("changes", {}),
            is_branch="on" in value,
            is_further=value.get("is_further", False),
            start=rows.get(value.get("start_classifier_from")),
            is_start_restored=value.get("is_start_restored", False),
            averaged=tuple(rows[other] for other in value.get("average_with", ())),
            random_start=value.get("random_start"),
        )
    return Ladder(values["folds"], tuple(rows.values()))
