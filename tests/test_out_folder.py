from pathlib import Path

import pytest

from tumor_cascade.errors import ParamsError
from tumor_cascade.out_folder import check_out_folder

MARKER = "predictions.jsonl"


def test_check_out_folder__missing_or_empty_is_fine(tmp_path: Path) -> None:
    check_out_folder(tmp_path / "missing", [tmp_path / "source"], marker=MARKER)
    (tmp_path / "empty").mkdir()
    check_out_folder(tmp_path / "empty", [tmp_path / "source"])


@pytest.mark.parametrize("out", ["source", "source/out", "."])
def test_check_out_folder__at_in_or_around_a_source(tmp_path: Path, out: str) -> None:
    (tmp_path / "source").mkdir()
    with pytest.raises(ParamsError, match=r"lies at, in or around .*source, which is read"):
        check_out_folder(tmp_path / out, [tmp_path / "source"], marker=MARKER, is_overwrite=True)


def test_check_out_folder__earlier_output(tmp_path: Path) -> None:
    (tmp_path / MARKER).touch()
    with pytest.raises(ParamsError, match="holds earlier output; add --overwrite"):
        check_out_folder(tmp_path, [], marker=MARKER)
    check_out_folder(tmp_path, [], marker=MARKER, is_overwrite=True)


def test_check_out_folder__foreign_files_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ParamsError, match=r"holds other things than earlier output \(no predictions\.jsonl\)"):
        check_out_folder(tmp_path, [], marker=MARKER, is_overwrite=True)
    with pytest.raises(ParamsError, match="holds something"):
        check_out_folder(tmp_path, [])


def test_check_out_folder__a_marker_of_another_command_is_none(tmp_path: Path) -> None:
    rules = {"marker": "content.json", "mark": '"scope": "mine"'}
    (tmp_path / "content.json").write_text('{"scope": "theirs"}')
    with pytest.raises(
        ParamsError, match=r'other things than earlier output \(no content\.json with "scope": "mine"\)'
    ):
        check_out_folder(tmp_path, [], **rules, is_overwrite=True)
    (tmp_path / "content.json").write_text('{"scope": "mine"}')
    check_out_folder(tmp_path, [], **rules, is_overwrite=True)


def test_check_out_folder__file_or_link(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("file", "link"):
        with pytest.raises(ParamsError, match="is a file or a link"):
            check_out_folder(tmp_path / name, [])
