"""A cascade product with fresh weights: useless, but whole."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from tumor_cascade.data.preprocessing import Preprocessing
from tumor_cascade.models.decision import CascadeSettings
from tumor_cascade.network_folder import Role, hash_patient, write_network
from tumor_cascade.product import CASCADE_NAME, build_network
from tumor_cascade.storage import CONTENT_NAME, write_json

INPUT_SIZE_PX = 32
CONTENT_ID = "c0ffee" + 58 * "0"
ARCHITECTURES: dict[Role, dict[str, object]] = {
    "classifier": {"network": "resnet18", "dropout": 0.0, "head": "linear", "input_size_px": INPUT_SIZE_PX},
    "segmenter": {"widths": [4, 8], "encoder": "residual", "has_slice_head": False, "has_deep_supervision": False},
}


def write_product(
    folder: Path,
    *,
    gate_threshold: float,
    training_patients: Sequence[str] = (),
    validation_patients: Sequence[str] = (),
    has_neighbor_slices: bool = False,
    is_leaky: bool = False,
    network: str = "resnet18",
) -> Path:
    """Write a cascade of one small classifier and one small segmenter with seeded random weights; return its folder."""
    settings = CascadeSettings(
        smoothing_slices=0.0,
        temperature=1.0,
        gate_threshold=gate_threshold,
        classifier_weight=1.0,
        segmenter_weight=0.0,
        bias=0.0,
        decision_threshold=gate_threshold,
        mask_threshold=0.5,
        has_flip_averaging=False,
        min_component_voxels=0,
        has_only_largest_component=False,
    )
    preprocessing = Preprocessing(INPUT_SIZE_PX, "unit_range", has_neighbor_slices=has_neighbor_slices)
    for role, kind in ARCHITECTURES.items():
        torch.manual_seed(0)
        architecture = {"in_channels": preprocessing.num_channels, **kind}
        if role == "classifier":
            architecture["network"] = network
        weights = build_network(role, architecture).state_dict()
        config = {
            "role": role,
            "architecture": architecture,
            "preprocessing": asdict(preprocessing),
            "fold": 0,
            "training_patients": [hash_patient(patient) for patient in training_patients],
            "validation_patients": [hash_patient(patient) for patient in validation_patients],
        }
        target = folder / f"{role}s" / "fold-0"
        target.mkdir(parents=True)
        write_network(target, config, weights, {})
    facts = {"protocol": "slice_level" if is_leaky else "patient_level", "is_leaky": is_leaky, "has_patient_ids": True}
    numbers = {"settings": settings.to_json(), "out_of_fold_settings": {"0": settings.to_json()}}
    write_json(folder / CASCADE_NAME, {**numbers, "is_cross_fitted": False, **facts})
    write_json(folder / CONTENT_NAME, {"content_id": CONTENT_ID})
    return folder
