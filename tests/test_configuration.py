from pathlib import Path

import pytest

from tumor_cascade.configuration import PRESETS_DIR, build_preset, configure, render_preset
from tumor_cascade.errors import ParamsError

PHANTOM = (PRESETS_DIR / "phantom.yaml").read_text(encoding="utf-8")


def test_render_preset__the_base_comes_back_byte_for_byte() -> None:
    assert render_preset("phantom") == PHANTOM


def test_render_preset__an_overlay_changes_its_values_and_keeps_comments_and_order() -> None:
    before, after = PHANTOM.splitlines(), render_preset("smoke").splitlines()
    assert len(before) == len(after)
    assert [line.split(":")[0] for line in before] == [line.split(":")[0] for line in after]
    assert [line.partition(" #")[2] for line in before] == [line.partition(" #")[2] for line in after]
    assert "    num_patients: 16" in after


def test_build_preset__overrides_come_after_the_preset_and_are_read_as_yaml() -> None:
    values = build_preset("honest", ["train_segmenter.learning_rate=3e-4", "assemble_cascade.folds=[0, 1]"])
    assert values["ingest_data"]["source"] == "kaggle"
    assert values["train_segmenter"]["learning_rate"] == 0.0003
    assert values["assemble_cascade"]["folds"] == [0, 1]


def test_build_preset__an_overlay_may_extend_another() -> None:
    honest, cpu, base = (build_preset(name) for name in ("honest-cpu", "lgg-cpu", "phantom"))
    assert (honest["assemble_cascade"]["folds"], cpu["assemble_cascade"]["folds"]) == ([0, 1, 2, 3, 4], [0])
    assert honest["train_segmenter"] == cpu["train_segmenter"] != base["train_segmenter"]


def test_build_preset__one_augmentation_changes_alone() -> None:
    values = build_preset("phantom", ["train_classifier.augmentation.noise_std=0.5"])
    assert values["train_classifier"]["augmentation"]["noise_std"] == 0.5
    assert values["train_segmenter"]["augmentation"] == build_preset("phantom")["train_segmenter"]["augmentation"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train_segmenter.fn_weight", r"--set train_segmenter.fn_weight: must read section.key=value"),
        ("train_segmenter.fp=0.5", r"train_segmenter.fp is no parameter; must be one of .*widths, training_slices"),
        ("nothing.here=1", r"nothing is no parameter; must be one of ingest_data, validate_data"),
        ("train_segmenter=1", r"train_segmenter is a section; name one of its keys"),
        ("train_segmenter.seed=[", r"the value is no valid YAML; quote one with spaces"),
        (
            "train_segmenter.fn_weight=1.4",
            r"^preset phantom --set .*fn_weight is 1.4; must be less than",
        ),
    ],
)
def test_configure__a_wrong_override_writes_nothing(tmp_path: Path, override: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("as it was", encoding="utf-8")
    with pytest.raises(ParamsError, match=message):
        configure("phantom", path, [override])
    assert path.read_text(encoding="utf-8") == "as it was"


def test_configure__an_unknown_preset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="preset 'brats' is unknown; must be one of honest, honest-cpu, lgg-cpu"):
        configure("brats", tmp_path / "params.yaml")


def test_configure__says_what_changed_and_nothing_the_second_time(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    (line,) = configure("phantom", path)
    assert line.startswith("params.yaml: new, ")
    assert configure("phantom", path, ["split_data.seed=7"]) == ["split_data.seed: 1 -> 7"]
    assert configure("phantom", path, ["split_data.seed=7"]) == []
    assert configure("phantom", path) == ["split_data.seed: 7 -> 1"]
    assert path.read_text(encoding="utf-8") == PHANTOM


def test_configure__names_values_that_came_and_went(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(PHANTOM.replace("  max_side_px: 2048\n", "  max_side: 2048\n"), encoding="utf-8")
    assert configure("phantom", path) == [
        "ingest_data.max_side_px: absent -> 2048",
        "ingest_data.max_side: 2048 -> absent",
    ]
