"""`train_segmenter`: ResUNet with the Tversky loss, where is the tumor?"""

from pathlib import Path
from typing import Any

from torch import nn

from tumor_cascade.models.encoders import Encoder
from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.params import TrainSegmenterParams
from tumor_cascade.training.initialization import find_start, start_encoder
from tumor_cascade.training.segmentation import SegmenterTraining
from tumor_cascade.training.session import NetworkRecipe, TrainingPaths, train_network


def train_segmenter(
    params: TrainSegmenterParams,
    *,
    fold: int,
    slices: Path,
    manifest: Path,
    splits: Path,
    out_segmenter: Path,
    out_report: Path,
    out_metrics: Path,
) -> None:
    """Train the segmenter on all folds but one and keep the best weights on that one; see `train_network`."""
    start = find_start(params.initialization, params.encoder, "segmenter", fold)
    architecture: dict[str, Any] = {
        "widths": params.widths,
        "encoder": params.encoder,
        "has_slice_head": params.slice_head_weight > 0,
        "has_deep_supervision": params.deep_supervision_weight > 0,
    }

    def build(num_channels: int) -> nn.Module:
        network = ResUNet(num_channels, **architecture)
        if start is not None:
            assert isinstance(network.encoder, Encoder)  # the schema gives encoder residual no starting weights
            start_encoder(network.encoder, start, params.encoder)
        return network

    recipe = NetworkRecipe(
        role="segmenter", build=build, architecture=architecture, module=SegmenterTraining, start=start
    )
    train_network(recipe, params, fold, TrainingPaths(slices, manifest, splits, out_segmenter, out_report, out_metrics))
