"""`tumor-cascade predict` where images lie in a bucket, answers go to one, or the cascade is a registered version.

Predictions are made in a folder. In a bucket their list of lines is written last: where it is, the rest is.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tumor_cascade.data_plane.objects import run_parallel
from tumor_cascade.data_plane.raw_data import download_raw
from tumor_cascade.errors import ParamsError
from tumor_cascade.object_store import open_store
from tumor_cascade.prediction import LINES_NAME, PredictionSummary, predict
from tumor_cascade.storage import write_json


def predict_stored(
    source: Path | str, cascade: Path, model: str | None, out: Path | str, *, is_overwrite: bool
) -> PredictionSummary:
    """Predict every image of a source, as `prediction.predict`.

    Args:
        source: What `predict` takes, or `s3://bucket/prefix`, or one object.
        cascade: Packed cascade.
        model: A registered version in its place, as MLflow names it; None: the cascade.
        out: Folder or `s3://bucket/prefix`.
        is_overwrite: Whether earlier predictions may be replaced; in a bucket, masks that no line names may stay.

    Raises:
        ParamsError: `out` has something else or is read, or there is no such version.
        DataError: Cascade or version is damaged, a bucket cannot be used, or not a single image can be read.
    """
    check_bucket(out, source)
    with (
        local_out(out, is_overwrite=is_overwrite) as target,  # first: a refusal must not wait for a download
        local_source(source) as folder,
        open_cascade(cascade, model) as packed,
    ):
        return predict(folder, packed, target, is_overwrite=is_overwrite)


def check_bucket(out: Path | str, source: Path | str) -> None:
    """Refuse to write over, into or around a place in a bucket that is read; `check_out_folder` does so for folders.

    Raises:
        ParamsError: `out` is such a place.
    """
    if isinstance(out, Path) or isinstance(source, Path):
        return
    written, read = (f"{open_store(url).url}/" for url in (out, source))
    if written.startswith(read) or read.startswith(written):
        raise ParamsError(f"output {out} lies at, in or around {source}, which is read; choose another.")


@contextmanager
def local_source(source: Path | str) -> Iterator[Path]:
    """Yield a source as a path; what came from a bucket is gone afterwards."""
    if isinstance(source, Path):
        yield source
        return
    with download_raw(source) as folder:
        yield folder


@contextmanager
def local_out(out: Path | str, *, is_overwrite: bool) -> Iterator[Path]:
    """Yield a folder to write to; its files go to the bucket once predictions are complete.

    Raises:
        ParamsError: The bucket has earlier predictions there.
    """
    if isinstance(out, Path):
        yield out
        return
    store = open_store(out)
    if not is_overwrite and store.find_size(LINES_NAME) is not None:
        raise ParamsError(f"{out} holds earlier predictions; add --overwrite to replace them or choose another.")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work, "predictions")
        yield folder
        store.remove(LINES_NAME)  # earlier lines beside new masks would tell of other predictions
        keys = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        for _ in run_parallel(lambda key: store.upload(folder / key, key), [key for key in keys if key != LINES_NAME]):
            pass
        store.upload(folder / LINES_NAME, LINES_NAME)


@contextmanager
def open_cascade(cascade: Path, model: str | None) -> Iterator[Path]:
    """Yield the folder of a packed cascade; of a registered version, once all its files have been checked."""
    if model is None:
        yield cascade
        return
    from tumor_cascade.registry.health import CASCADE_DIR
    from tumor_cascade.registry.served_version import checked_version

    with checked_version(model) as folder:
        yield folder / CASCADE_DIR


def write_counts(summary: PredictionSummary, path: Path) -> None:
    """Write how much was predicted, as JSON."""
    counts = {name: value for name, value in vars(summary).items() if name.startswith("num_")}
    write_json(path, {**counts, "num_errors": len(summary.errors)})
