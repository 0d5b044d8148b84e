"""`train_segmenter`: ResUNet with the Tversky loss, where is the tumor?"""

from pathlib import Path

from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.params import TrainSegmenterParams
from tumor_cascade.training.segmentation import SegmenterTraining
from tumor_cascade.training.session import train_network


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
    train_network(
        "segmenter",
        params,
        network=lambda num_channels: ResUNet(num_channels, params.widths),
        architecture={"widths": params.widths},
        module=SegmenterTraining,
        facts={},
        fold=fold,
        slices=slices,
        manifest=manifest,
        splits=splits,
        out_network=out_segmenter,
        out_report=out_report,
        out_metrics=out_metrics,
    )
