"""`train_segmenter`: ResUNet with the Tversky loss, where is the tumor?"""

from pathlib import Path

from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.params import TrainSegmenterParams
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
    recipe = NetworkRecipe(
        role="segmenter",
        build=lambda num_channels: ResUNet(num_channels, params.widths),
        architecture={"widths": params.widths},
        module=SegmenterTraining,
        facts={},
    )
    train_network(recipe, params, fold, TrainingPaths(slices, manifest, splits, out_segmenter, out_report, out_metrics))
