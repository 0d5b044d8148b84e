import hashlib
from pathlib import Path

from tumor_cascade.registry.dataset import locate_data


def write_lock(folder: Path, md5: str) -> None:
    outs = f"[{{path: artifacts/ingest_data/manifest.parquet, md5: {md5}}}, {{path: slices, md5: 12ab.dir}}]"
    (folder / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  ingest_data:\n    outs: {outs}\n")


def test_locate_data__where_dvc_keeps_them(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.parquet"
    manifest.write_bytes(b"data")
    md5 = hashlib.md5(b"data").hexdigest()
    write_lock(tmp_path, md5)
    assert locate_data(manifest, tmp_path)["uri"] == f"dvc cache/files/md5/{md5[:2]}/{md5[2:]}"
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(
        "[core]\n    remote = storage\n['remote \"storage\"']\n    url = s3://bucket/path\n"
    )
    assert locate_data(manifest, tmp_path)["uri"] == f"s3://bucket/path/files/md5/{md5[:2]}/{md5[2:]}"


def test_locate_data__a_lock_of_other_data_says_nothing(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.parquet"
    manifest.write_bytes(b"data")
    expected = {"uri": "manifest.parquet", "sha256": hashlib.sha256(b"data").hexdigest()}
    assert locate_data(manifest, tmp_path) == expected
    write_lock(tmp_path, 32 * "0")
    assert locate_data(manifest, tmp_path) == expected
