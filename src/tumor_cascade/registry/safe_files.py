"""Which files may be loaded: JSON and safetensors run nothing, whatever else a file may be called."""

import json
from collections.abc import Iterator
from pathlib import Path

SAFE_SUFFIXES = (".json", ".safetensors")
MAX_HEADER_BYTES = 100_000_000


def find_unsafe_files(folder: Path) -> Iterator[str]:
    """Yield each file that is neither JSON nor safetensors, whatever it is called."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            yield f"{name} is a link"
        elif path.is_file() and path.suffix not in SAFE_SUFFIXES:
            yield f"{name} is no {' or '.join(SAFE_SUFFIXES)} file"
        elif path.is_file() and not (is_json(path) if path.suffix == ".json" else is_safetensors(path)):
            yield f"{name} is not what its suffix says"


def is_json(path: Path) -> bool:
    """Say whether a file holds JSON."""
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def is_safetensors(path: Path) -> bool:
    """Say whether a file starts with the length of a JSON header and that header, as safetensors do."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        try:
            header = json.loads(stream.read(length)) if length <= MAX_HEADER_BYTES else None
        except ValueError:
            return False
    return isinstance(header, dict)
