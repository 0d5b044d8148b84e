"""A cascade product with fresh weights: useless, but whole."""

from dataclasses import asdict
from pathlib import Path

import torch

from tumor_cascade.data.preprocessing import Preprocessing
from tumor_cascade.models.cascade import CascadeSettings
from tumor_cascade.network_folder import Role, write_network
from tumor_cascade.product import CASCADE_NAME, build_network
from tumor_cascade.storage import write_json

INPUT_SIZE_PX = 32
ARCHITECTURES: dict[Role, dict[str, object]] = {
    "classifier": {"in_channels": 3, "network": "resnet18", "dropout": 0.0},
    "segmenter": {"in_channels": 3, "widths": [4, 8]},
}


def write_product(folder: Path, *, gate_threshold: float, mask_threshold: float = 0.5, seed: int = 0) -> Path:
    """Write a cascade of one small classifier and one small segmenter with seeded random weights; return its folder."""
    settings = CascadeSettings(
        temperature=1.0,
        gate_threshold=gate_threshold,
        mask_threshold=mask_threshold,
        has_flip_averaging=False,
        min_component_voxels=0,
        has_only_largest_component=False,
    )
    for role, architecture in ARCHITECTURES.items():
        torch.manual_seed(seed)
        weights = build_network(role, architecture).state_dict()
        preprocessing = Preprocessing(INPUT_SIZE_PX, "unit_range", has_neighbor_slices=False)
        config = {"role": role, "architecture": architecture, "preprocessing": asdict(preprocessing), "fold": 0}
        target = folder / f"{role}s" / "fold-0"
        target.mkdir(parents=True)
        write_network(target, config, weights, {})
    write_json(folder / CASCADE_NAME, {"settings": settings.to_json()})
    return folder
