import os
from pathlib import Path

import pytest

from tumor_cascade.data_plane.slice_folder import lay_out


@pytest.fixture
def objects(tmp_path: Path) -> dict[Path, Path]:
    (tmp_path / "incoming").mkdir()
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"content of {name}")
    return {Path("one.npy"): tmp_path / "a", Path("more/two.npy"): tmp_path / "b", Path("more/one.npy"): tmp_path / "a"}


def test_lay_out__makes_hard_links(objects: dict[Path, Path], tmp_path: Path) -> None:
    lay_out(tmp_path / "folder", objects, tmp_path / "incoming")
    for path, source in objects.items():
        assert (tmp_path / "folder" / path).samefile(source)
    assert not list((tmp_path / "incoming").iterdir())


def test_lay_out__leaves_right_files_alone_and_replaces_others_at_once(
    objects: dict[Path, Path], tmp_path: Path
) -> None:
    lay_out(tmp_path / "folder", objects, tmp_path / "incoming")
    with (tmp_path / "folder" / "one.npy").open() as reader:
        (tmp_path / "folder" / "more" / "two.npy").unlink()
        (tmp_path / "folder" / "more" / "two.npy").write_text("another")
        lay_out(tmp_path / "folder", objects, tmp_path / "incoming")
        assert os.fstat(reader.fileno()).st_ino == (tmp_path / "folder" / "one.npy").stat().st_ino
    assert (tmp_path / "folder" / "more" / "two.npy").read_text() == "content of b"


def test_lay_out__copies_where_there_are_no_hard_links(objects: dict[Path, Path], tmp_path: Path) -> None:
    """As where the objects are on another file system: the kernel refuses these links with EXDEV."""
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    source = shared_memory / f"{tmp_path.parent.name}-{tmp_path.name}"
    source.write_text("elsewhere")
    try:
        for _ in range(2):
            lay_out(tmp_path / "folder", {Path("one.npy"): source}, tmp_path / "incoming")
            assert (tmp_path / "folder" / "one.npy").read_text() == "elsewhere"
            assert not (tmp_path / "folder" / "one.npy").samefile(source)
    finally:
        source.unlink()
