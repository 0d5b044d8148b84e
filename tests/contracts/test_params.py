import ast
import copy
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from pipeline import ROOT
from tumor_cascade.configuration import BASE, PRESETS, PRESETS_DIR, build_preset
from tumor_cascade.content import PACKAGE_DIR
from tumor_cascade.errors import ParamsError
from tumor_cascade.params import Params, parse_params, read_yaml

# Names that say it all; every other field has a description.
OBVIOUS = set(
    "adam_epsilon batch_size confidence dropout flip_probability has_only_largest_component input_size_px "
    "learning_rate loss lr_schedule max_epochs max_rotation_deg monitor network normalization optimizer precision "
    "reduction seed surface_tolerances_px training_slices weight_decay".split()
)
Leaf = tuple[str, ...]


def list_fields(model: type[BaseModel], prefix: Leaf = ()) -> Iterator[tuple[Leaf, str | None]]:
    """Yield path and description of each value in the schema."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from list_fields(field.annotation, (*prefix, name))
        else:
            yield (*prefix, name), field.description


def flatten(values: dict[str, Any], prefix: Leaf = ()) -> dict[Leaf, Any]:
    flat: dict[Leaf, Any] = {}
    for name, value in values.items():
        flat |= flatten(value, (*prefix, name)) if isinstance(value, dict) else {(*prefix, name): value}
    return flat


def replace(values: dict[str, Any], leaf: Leaf, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(values)
    section = changed
    for name in leaf[:-1]:
        section = section[name]
    section[leaf[-1]] = value
    return changed


FIELDS = dict(list_fields(Params))
PHANTOM = build_preset(BASE)
NUMBERS = [leaf for leaf, value in flatten(PHANTOM).items() if isinstance(value, int | float)]


def test_params__every_field_is_described_or_obvious() -> None:
    assert not [leaf for leaf, description in FIELDS.items() if not description and leaf[-1] not in OBVIOUS]


def test_params__every_field_is_used() -> None:
    used: set[str] = set()
    for path in PACKAGE_DIR.rglob("*.py"):
        if path.name != "params.py":
            nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
            used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
            used |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert not [".".join(leaf) for leaf in FIELDS if leaf[-1] not in used]


def test_params__no_field_has_a_default() -> None:
    def list_models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
        yield model
        for field in model.model_fields.values():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from list_models(field.annotation)

    fields = [(name, field) for model in list_models(Params) for name, field in model.model_fields.items()]
    assert not [name for name, field in fields if not field.is_required()]


@pytest.mark.parametrize("leaf", FIELDS, ids=".".join)
def test_parse_params__a_value_of_a_wrong_type_is_named(leaf: Leaf) -> None:
    with pytest.raises(ParamsError, match=rf"^test: {'[.]'.join(leaf)} is {{'no': 'value'}}; "):
        parse_params(replace(PHANTOM, leaf, {"no": "value"}), "test")


@pytest.mark.parametrize("leaf", NUMBERS, ids=".".join)
def test_parse_params__a_number_as_text_is_refused(leaf: Leaf) -> None:
    with pytest.raises(ParamsError, match=rf"test: {'[.]'.join(leaf)} is '1'; must be a valid"):
        parse_params(replace(PHANTOM, leaf, "1"), "test")


@pytest.mark.parametrize(
    ("leaf", "value", "message"),
    [
        (
            ("train_segmenter", "fn_weight"),
            1.4,
            "train_segmenter.fn_weight is 1.4; must be less than or equal to 1. Correct it.$",
        ),
        (("train_segmenter", "widths"), [16], "train_segmenter.widths is .16.; must have at least 2 items"),
        (("train_segmenter", "widths"), [16, 0], "train_segmenter.widths.1 is 0; must be greater than or equal to 1"),
        (("assemble_cascade", "mask_thresholds"), [0.5, 1.0], "mask_thresholds.1 is 1.0; must be less than 1"),
        (("validate_data", "max_institution_drift"), 0.2, "drift is 0.2; must be greater than or equal to 1"),
        (
            ("assemble_cascade", "postprocessing", "has_only_largest_component"),
            True,
            "has_only_largest_component is true with gate classifier; must be false: the gate cuts lesions in two.*"
            r"; set it to false, or the gate to none\.$",
        ),
        (("train_classifier", "network"), "vgg", "network is 'vgg'; must be 'resnet18', 'resnet50' or 'efficient"),
        (("validate_data", "tumor_pixel_share"), [0.3, 0.1], "tumor_pixel_share is .0.3, 0.1.; must be .low, high."),
        (("assemble_cascade", "folds"), [5], "assemble_cascade.folds is .5.; must be different numbers from 0 to 4"),
        (
            ("train_classifier", "head"),
            "study",
            r"input_size_px is 96; must be a multiple of 128 with network resnet50 and head study; change it\.$",
        ),
        (
            ("train_segmenter", "initialization"),
            "imagenet",
            "train_segmenter.initialization is 'imagenet'; must be none with encoder residual",
        ),
        (("split_data", "unknown"), 1, "split_data.unknown is no parameter; correct its name or remove it"),
        (("unknown",), {}, "unknown is no parameter"),
    ],
)
def test_parse_params__a_broken_rule_is_named_with_its_value(leaf: Leaf, value: Any, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        parse_params(replace(PHANTOM, leaf, value), "test")


def test_parse_params__all_that_an_encoder_cannot_take_is_named() -> None:
    values = replace(PHANTOM, ("train_segmenter", "encoder"), "efficientnet_lite0")
    parse_params(values, "test")
    values = replace(
        replace(values, ("train_segmenter", "input_size_px"), 144), ("train_segmenter", "widths"), [16, 32]
    )
    with pytest.raises(ParamsError) as raised:
        parse_params(values, "test")
    assert str(raised.value) == (
        "test: train_segmenter.input_size_px is 144; must be a multiple of 32 with encoder efficientnet_lite0 and 2 "
        "widths; change it; train_segmenter.widths is [16, 32]; must be five with encoder efficientnet_lite0; "
        "correct it."
    )


@pytest.mark.parametrize("stage", ["train_classifier", "train_segmenter"])
def test_parse_params__a_lone_pixel_cannot_be_normalized(stage: str) -> None:
    values = replace(PHANTOM, ("train_segmenter", "encoder"), "efficientnet_lite0")
    values = replace(replace(values, (stage, "input_size_px"), 32), (stage, "batch_size"), 2)
    parse_params(values, "test")
    with pytest.raises(ParamsError, match=f"{stage}.batch_size is 1; must be 2 or more with input_size_px 32, whose"):
        parse_params(replace(values, (stage, "batch_size"), 1), "test")
    parse_params(replace(replace(values, (stage, "batch_size"), 1), (stage, "input_size_px"), 64), "test")


def test_parse_params__the_largest_component_alone_goes_without_a_gate() -> None:
    values = replace(PHANTOM, ("assemble_cascade", "postprocessing", "has_only_largest_component"), True)
    parse_params(replace(values, ("assemble_cascade", "gate"), "none"), "test")


def test_read_yaml__a_file_that_is_no_utf_8(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes("seed: 1 # für".encode("latin-1"))
    with pytest.raises(ParamsError, match=r"params\.yaml: is no UTF-8 text \(byte 11: invalid .*; save it as UTF-8"):
        read_yaml(tmp_path / "params.yaml")


@pytest.mark.parametrize("name", PRESETS)
def test_presets__are_valid(name: str) -> None:
    parse_params(build_preset(name), name)


@pytest.mark.parametrize("name", [name for name in PRESETS if name != BASE])
def test_presets__are_sparse_overlays_of_the_base(name: str) -> None:
    values = YAML(typ="safe", pure=True).load(PRESETS_DIR / f"{name}.yaml")
    assert values.pop("extends", BASE) in PRESETS
    assert set(flatten(values)) < set(flatten(PHANTOM))


def test_presets__those_that_the_readme_names() -> None:
    assert set(PRESETS) == {"honest", "honest-cpu", "lgg-cpu", "phantom", "product-cpu", "smoke", "study", "study-cpu"}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = "".join(line.split("|")[1] for line in readme.splitlines() if line.startswith("| `"))
    assert all(f"`{name}`" in table for name in PRESETS)


def test_presets__committed_params_are_the_phantom_preset() -> None:
    def show(path: str) -> bytes:
        done = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=ROOT, capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"no committed {path} to compare")
        return done.stdout

    # The working copy may be any preset: people configure, then test.
    assert show("params.yaml") == show("src/tumor_cascade/presets/phantom.yaml")
