"""`tumor-cascade configure`: writes params.yaml from a preset, comments kept, checked before anything is written.

`presets/phantom.yaml` is complete; every other preset is a sparse overlay of values on it, or on the preset that it
names under `extends`.
"""

import io
import json
import shlex
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
EXTENDS = "extends"
ABSENT = "absent"
PRESETS = tuple(sorted(path.stem for path in PRESETS_DIR.glob("*.yaml")))


def configure(name: str, path: Path, overrides: Sequence[str] = ()) -> list[str]:
    """Write a params file from a preset and say what changed.

    Args:
        name: One of `PRESETS`.
        path: The file to write; what stands there is replaced.
        overrides: `section.key=value` each, the value read as YAML; applied after the preset.

    Returns:
        One line for each value that is other than before, as `train_segmenter.max_epochs: 12 -> 24`.

    Raises:
        ParamsError: An unknown preset or key, or a value that breaks its rule; nothing was written.
    """
    text = render_preset(name, overrides)
    before, after = _read_flat(path), dict(_flatten(_parse(text)))
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    if not before:
        return [f"{path.name}: new, {len(after)} values of preset {name}"]
    keys = [*after, *(key for key in before if key not in after)]
    pairs = [(key, before.get(key, ABSENT), after.get(key, ABSENT)) for key in keys]
    return [f"{key}: {old} -> {new}" for key, old, new in pairs if old != new]


def build_preset(name: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Return the sections of a preset as plain values; arguments and errors as `configure`."""
    return _parse(render_preset(name, overrides))


def render_preset(name: str, overrides: Sequence[str] = ()) -> str:
    """Return the text of the params file that a preset and overrides make; arguments and errors as `configure`."""
    if name not in PRESETS:
        raise ParamsError(f"preset {name!r} is unknown; must be one of {', '.join(PRESETS)}.")
    yaml = _make_yaml()
    values = _load_preset(yaml, name)
    for override in overrides:
        _overlay(values, _parse_override(override), f"--set {override}")
    stream = io.StringIO()
    yaml.dump(values, stream)
    parse_params(_parse(stream.getvalue()), " ".join([f"preset {name}", *(f"--set {one}" for one in overrides)]))
    return stream.getvalue()


def list_overrides(name: str, values: Mapping[str, Any]) -> list[str]:
    """Return what makes a preset's params these: `section.key=value` each, as `configure` takes them."""
    preset = dict(_flatten(build_preset(name)))
    texts = (
        (key, value if isinstance(value, str) else json.dumps(value))
        for key, value in _flatten(values)
        if value != preset.get(key, ABSENT)
    )
    return [f"{key}={text}" for key, text in texts]


def read_overridden(path: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Return the values of a params file with overrides; arguments and errors as `override_params`."""
    return _parse(override_params(path, overrides)) if any(overrides) else read_yaml(path)


def override_params(path: Path, overrides: Sequence[str]) -> str:
    """Return the text of a params file with values overridden, comments kept; nothing is written.

    Args:
        path: The file.
        overrides: Any number of `section.key=value` each, separated by spaces; quoted where a value holds one.

    Raises:
        ParamsError: The file cannot be read, or a key is unknown.
    """
    read_yaml(path)  # says what is wrong with the file
    yaml = _make_yaml()
    values = yaml.load(path.read_text(encoding="utf-8"))
    for override in (one for text in overrides for one in _split_overrides(text)):
        _overlay(values, _parse_override(override), f"--set {override}")
    stream = io.StringIO()
    yaml.dump(values, stream)
    return stream.getvalue()


def _split_overrides(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ParamsError(f"--set {text}: {error}; quote values as a shell has it.") from error


def _load_preset(yaml: YAML, name: str) -> Any:
    values = yaml.load(PRESETS_DIR / f"{name}.yaml")
    if name == BASE:
        return values
    base = _load_preset(yaml, values.pop(EXTENDS, BASE))
    _overlay(base, values, f"preset {name}")
    return base


def _make_yaml() -> YAML:
    yaml = YAML(pure=True)  # round trip: comments, order and the writing of numbers stay
    yaml.width = 120
    return yaml


def _parse(text: str) -> dict[str, Any]:
    values: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return values


def _parse_override(override: str) -> dict[str, Any]:
    key, separator, value = override.partition("=")
    if not separator:
        raise ParamsError(f"--set {override}: must read section.key=value, as in train_segmenter.fn_weight=0.8.")
    try:
        nested: Any = _make_yaml().load(value)
    except YAMLError as error:
        raise ParamsError(
            f"--set {override}: the value is no valid YAML; quote one with spaces, as in key='[0, 1]'."
        ) from error
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
    """Return the values in a params file; none where it is missing or unreadable, as it is replaced anyway."""
    try:
        return dict(_flatten(read_yaml(path)))
    except ParamsError:
        return {}
