"""Where a command may write: never over, into or around what it reads, and never over what it did not write."""

from collections.abc import Sequence
from pathlib import Path

from tumor_cascade.errors import ParamsError


def check_out_folder(
    out: Path, sources: Sequence[Path], *, marker: str = "", mark: str = "", is_overwrite: bool = False
) -> None:
    """Refuse an output folder whose replacement would lose something.

    Args:
        out: The wanted folder; missing or empty is always fine.
        sources: What the command reads.
        marker: A file that an earlier run of the same command leaves in its output folder.
        mark: Text in that file, where other commands leave one of this name too.
        is_overwrite: Whether such an earlier output may be replaced.

    Raises:
        ParamsError: Of what stands in the way.
    """
    target = out.resolve()
    for source in (path.resolve() for path in sources):
        if target == source or target in source.parents or source in target.parents:
            raise ParamsError(f"output folder {out} lies at, in or around {source}, which is read; choose another.")
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise ParamsError(f"output folder {out} is a file or a link; remove it or choose another.")
    if not out.is_dir() or not any(out.iterdir()):
        return
    if not marker or not _is_marked(out / marker, mark):
        sign = f"{marker} with {mark}" if mark else marker
        what = f"other things than earlier output (no {sign})" if marker else "something"
        raise ParamsError(f"output folder {out} holds {what}; choose another or empty it.")
    if not is_overwrite:
        raise ParamsError(f"output folder {out} holds earlier output; add --overwrite to replace it or choose another.")


def _is_marked(path: Path, mark: str) -> bool:
    return path.is_file() and (not mark or mark in path.read_text(encoding="utf-8", errors="replace"))
