from pathlib import Path

import pytest

from tumor_cascade.params import STAGES
from tumor_cascade.registry.headlines import HEADLINES, MAX_HEADLINES, flatten, read_headlines
from tumor_cascade.registry.views import VIEWS, describe_view
from tumor_cascade.storage import write_json


@pytest.mark.parametrize("stage", STAGES)
def test_headlines__at_most_a_dozen_each_once(stage: str) -> None:
    assert len(HEADLINES[stage]) == len(set(HEADLINES[stage])) <= MAX_HEADLINES == 12


def test_read_headlines__take_the_split_that_was_scored(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    names = ("num_patients", "volume_dice", "f1")
    write_json(path, {f"cascade/out_of_fold_{name}": value for name, value in zip(names, (9, 2 / 3, 0.1), strict=True)})
    assert read_headlines("evaluate_cascade", path) == {"cascade/out_of_fold_volume_dice": 0.666667}


def test_read_headlines__group_plain_names_by_stage(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"development": {"num_patients": 3, "other": 1}, "num_near_duplicates": 0})
    expected = {"split_data/development_num_patients": 3.0, "split_data/num_near_duplicates": 0.0}
    assert read_headlines("split_data", path) == expected
    assert read_headlines("split_data", tmp_path / "missing.json") == {}


def test_flatten__joins_keys_by_dots() -> None:
    assert flatten({"a": 1, "b": {"c": [2], "d": {}}}) == {"a": 1, "b.c": [2]}


@pytest.mark.parametrize("key", VIEWS)
def test_views__show_headlines_and_fit_into_a_tag(key: str) -> None:
    view = describe_view(key)
    assert len(str(view)) < 5000
    assert VIEWS[key][2] in str(view["state"])
