"""`tumor-cascade configure`: writes params.yaml from a preset, comments kept, checked before anything is written.

`presets/phantom.yaml` is complete; every other preset is a sparse overlay of values on it.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tumor_cascade.errors import ParamsError
from tumor_cascade.params import parse_params, read_yaml
from tumor_cascade.storage import atomic_file

PRESETS_DIR = Path(__file__).resolve().parent / "presets"
BASE = "phantom"
PRESETS = tuple(sorted(path.stem for path in PRESETS_DIR.glob("*.yaml")))


def configure(name: str, path: Path, overrides: Sequence[str] = ()) -> list[str]:
    """Write a params file from a preset and say what changed.

    Args:
        name: One of `PRESETS`.
        path: The file to write; what stands there is replaced.
        overrides: `section.key=value` each, the value read as YAML; applied after the preset.

    Returns:
        One line for each value that is other than before: `train_segmenter.max_epochs: 12 -> 24`.

    Raises:
        ParamsError: An unknown preset or key, or a value that breaks its rule; nothing was written.
    """
    text = render_preset(name, overrides)
    before = _read_flat(path)
    after = dict(_flatten(_make_yaml(typ="safe").load(text)))
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    keys = [*after, *(key for key in before if key not in after)]
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in keys
        if before.get(key, "absent") != after.get(key, "absent")
    ]


def render_preset(name: str, overrides: Sequence[str] = ()) -> str:
    """Return the text of a params file made from a preset and overrides, checked against the schema.

    Raises:
        ParamsError: As `configure`.
    """
    if name not in PRESETS:
        raise ParamsError(f"preset {name!r} is unknown; must be one of {', '.join(PRESETS)}.")
    yaml = _make_yaml()
    values = yaml.load(PRESETS_DIR / f"{BASE}.yaml")
    if name != BASE:
        _overlay(values, yaml.load(PRESETS_DIR / f"{name}.yaml"), f"preset {name}")
    for override in overrides:
        _overlay(values, _parse_override(override), "--set")
    stream = io.StringIO()
    yaml.dump(values, stream)
    text = stream.getvalue()
    parse_params(_make_yaml(typ="safe").load(text), f"preset {name}" + (f" with {', '.join(overrides)}" if overrides else ""))
    return text


def _make_yaml(typ: str = "rt") -> YAML:
    yaml = YAML(typ=typ, pure=True)
    yaml.width = 120
    return yaml


def _parse_override(override: str) -> dict[str, Any]:
    key, separator, value = override.partition("=")
    if not separator:
        raise ParamsError(f"--set {override}: must read section.key=value, as in train_segmenter.fn_weight=0.8.")
    try:
        nested: Any = _make_yaml().load(value)
    except YAMLError as error:
        raise ParamsError(f"--set {override}: the value is no valid YAML; quote it.") from error
    for part in reversed(key.split(".")):
        nested = {part: nested}
    return dict(nested)


def _overlay(base: Any, overlay: Mapping[str, Any], origin: str, prefix: str = "") -> None:
    """Put the values of a sparse overlay into a mapping; a key that is not there is an error."""
    for key, value in overlay.items():
        name = f"{prefix}{key}"
        if key not in base:
            raise ParamsError(f"{origin}: {name} is no parameter; must be one of {', '.join(base)}.")
        if isinstance(value, Mapping) and isinstance(base[key], Mapping):
            _overlay(base[key], value, origin, f"{name}.")
        elif isinstance(base[key], Mapping):
            raise ParamsError(f"{origin}: {name} is a section; name one of its keys: {', '.join(base[key])}.")
        else:
            base[key] = value


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _read_flat(path: Path) -> dict[str, Any]:
    """Return the values that stand in a params file; none where it is missing or unreadable, as it is replaced anyway."""
    try:
        return dict(_flatten(read_yaml(path)))
    except ParamsError:
        return {}
