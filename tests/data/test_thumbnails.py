"""Thumbnails and the nearest of them."""

from pathlib import Path

import numpy as np
import pytest

from manifests import make_manifest, write_volumes
from tumor_cascade.data.thumbnails import find_nearest, read_thumbnails, shrink_image
from tumor_cascade.errors import DataError


def test_shrink_image__averages_blocks_of_each_sequence() -> None:
    tile = np.array([[0, 2], [4, 6]], dtype=np.uint8)  # mean 3
    image = np.stack([np.tile(tile, (32, 32)), np.full((64, 64), 200, np.uint8)])
    shrunk = shrink_image(image)
    assert shrunk.dtype == np.uint8
    assert np.array_equal(shrunk, np.repeat([3, 200], 1024))


def test_shrink_image__smaller_than_a_thumbnail() -> None:
    assert shrink_image(np.full((3, 16, 20), 7, np.uint8)).tolist() == [7] * 3072


def test_read_thumbnails__in_the_order_of_the_rows(tmp_path: Path) -> None:
    manifest = write_volumes(tmp_path, make_manifest(3, 4))
    thumbnails = read_thumbnails(tmp_path, manifest)
    assert thumbnails.shape == (12, 3072)
    patient_id, index = manifest.loc[6, ["patient_id", "slice_index"]]
    assert np.array_equal(thumbnails[6], shrink_image(np.load(tmp_path / f"{patient_id}.npy")[index, :3]))


def test_read_thumbnails__missing_volume(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"AA_0000.npy cannot be read"):
        read_thumbnails(tmp_path, make_manifest(1))


def test_find_nearest__equal_to_a_plain_loop() -> None:
    rng = np.random.default_rng(3)
    queries, references = (rng.integers(0, 256, (n, 40), dtype=np.uint8) for n in (50, 30))
    distances = np.sqrt(((queries[:, None].astype(int) - references[None].astype(int)) ** 2).sum(axis=2))
    index, nearest = find_nearest(queries, references)
    assert np.array_equal(index, distances.argmin(axis=1))
    assert np.array_equal(nearest, distances.min(axis=1))  # integers before the root: equal to the last bit


def test_find_nearest__the_first_of_equally_near() -> None:
    references = np.array([[9, 9], [4, 0], [0, 4], [4, 0]], dtype=np.uint8)
    index, distance = find_nearest(np.array([[0, 0], [4, 0]], dtype=np.uint8), references)
    assert index.tolist() == [1, 1]
    assert distance.tolist() == [4, 0]


def test_find_nearest__no_queries() -> None:
    index, distance = find_nearest(np.zeros((0, 5), np.uint8), np.zeros((2, 5), np.uint8))
    assert index.shape == distance.shape == (0,)
