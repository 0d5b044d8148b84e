import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from archives import (
    add_slice,
    add_stray_files,
    build_tiff,
    encode,
    image_path,
    make_archive,
    make_image,
    make_mask,
    make_patient_id,
    make_zip,
    mask_path,
)
from PIL import Image
from products import CONTENT_ID, write_product
from test_out_folder import list_tree

from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.overlay import CAPTION_PX
from tumor_cascade.prediction import KEYS, predict
from tumor_cascade.product import load_cascade

PATIENT = make_patient_id(0)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("product") / "cascade"
    return write_product(folder, gate_threshold=0.0, has_neighbor_slices=True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients of 12 slices: in the order of names 10 comes before 2."""
    return make_archive(tmp_path_factory.mktemp("raw"), num_slices=12)
