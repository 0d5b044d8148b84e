import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tumor_cascade.cli import main
from tumor_cascade.configuration import build_preset
from tumor_cascade.content import hash_making
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.pod_options import MAKING_VARIABLE, lay_out_networks, params_json_option, read_values, require_making
from tumor_cascade.stages.interface import SECTIONS

SMOKE = build_preset("smoke")
SPLIT = json.dumps({"split_data": SMOKE["split_data"]})


def parse(*arguments: str, stage: str = "split_data") -> tuple[dict[str, Any], str]:
    """Return what `read_values` makes of a command line."""

    @click.command()
    @params_json_option
    @click.option("--params", "params_path", type=Path, default=Path("params.yaml"))
    @click.option("--set", "overrides", multiple=True)
    def command(params_json: str | None, params_path: Path, overrides: tuple[str, ...]) -> tuple[dict[str, Any], str]:
        return read_values(stage, params_path, overrides, params_json)

    values: tuple[dict[str, Any], str] = command.main(list(arguments), standalone_mode=False)
    return values


def make_network(folder: Path, fold: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"fold": fold}), encoding="utf-8")
    return folder


def test_read_values__json_takes_the_place_of_the_file() -> None:
    assert parse("--params-json", SPLIT) == ({"split_data": SMOKE["split_data"]}, "--params-json")


@pytest.mark.parametrize("other", [("--params", "other.yaml"), ("--set", "split_data.seed=2")])
def test_read_values__json_and_a_file_or_its_overrides_are_refused(other: tuple[str, str]) -> None:
    with pytest.raises(ParamsError, match="--params-json comes with --params or --set; give one or the other"):
        parse("--params-json", SPLIT, *other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "--params-json is no valid JSON"),
        ("[1]", "holds a list; must be an object with nothing but split_data"),
        ('{"split_data": {}, "train_segmenter": {}}', "holds split_data, train_segmenter; must be an object"),
    ],
)
def test_read_values__json_of_something_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        parse("--params-json", text)


def test_sections__an_act_gets_what_it_scores_and_ingests_by() -> None:
    assert SECTIONS["promote_cascade"] == ("evaluate_cascade", "ingest_data")


def test_lay_out_networks__networks_given_one_by_one_stand_by_fold(tmp_path: Path) -> None:
    networks = tuple(make_network(tmp_path / f"task-{fold}" / "classifier", fold) for fold in (0, 3))
    flags = {"classifier": networks, "segmenter": make_network(tmp_path / "segmenter", 2), "slices": tmp_path}
    with lay_out_networks(flags) as laid:
        assert laid["slices"] == tmp_path
        for role, folds in (("classifier", [0, 3]), ("segmenter", [2])):
            found = {path.relative_to(laid[role]).as_posix() for path in laid[role].glob("*/*")}
            assert found == {f"fold-{fold}/{role}" for fold in folds}
            assert all((laid[role] / f"fold-{fold}" / role / "config.json").is_file() for fold in folds)
    assert not laid["classifier"].exists()
    assert networks[0].is_dir()


def test_lay_out_networks__a_folder_of_folds_stays_as_it_is(tmp_path: Path) -> None:
    make_network(tmp_path / "fold-0" / "classifier", 0)
    with lay_out_networks({"classifier": tmp_path}) as laid:
        assert laid == {"classifier": tmp_path}


def test_lay_out_networks__two_networks_of_a_fold_are_refused(tmp_path: Path) -> None:
    networks = tuple(make_network(tmp_path / str(number), 1) for number in range(2))
    with pytest.raises(DataError, match="is of fold 1, as another one"), lay_out_networks({"classifier": networks}):
        pass


def test_lay_out_networks__a_folder_that_is_no_network_is_refused(tmp_path: Path) -> None:
    networks = (make_network(tmp_path / "first", 1), tmp_path)
    with pytest.raises(DataError, match="is no trained network"), lay_out_networks({"segmenter": networks}):
        pass


def test_require_making__an_image_of_other_code_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MAKING_VARIABLE, raising=False)
    require_making("split_data")
    monkeypatch.setenv(MAKING_VARIABLE, hash_making("split_data"))
    require_making("split_data")
    done = CliRunner().invoke(main, ["ingest_data", "--raw", "x", "--out-slices", "s", "--out-manifest", "m"])
    assert done.exit_code == 2
    assert "this image holds other code of ingest_data, or another lock file" in done.output
