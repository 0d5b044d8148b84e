"""`train_classifier`: does this slice show tumor?"""

from pathlib import Path
from typing import Any

from torch import nn

from tumor_cascade.models.classifier import TumorClassifier
from tumor_cascade.params import TrainClassifierParams
from tumor_cascade.training.classification import ClassifierTraining
from tumor_cascade.training.initialization import find_start, start_encoder
from tumor_cascade.training.session import NetworkRecipe, TrainingPaths, train_network


def train_classifier(
    params: TrainClassifierParams,
    *,
    fold: int,
    slices: Path,
    manifest: Path,
    splits: Path,
    out_classifier: Path,
    out_report: Path,
    out_metrics: Path,
) -> None:
    """Train the classifier on all folds but one and keep the best weights on that one; see `train_network`."""
    start = find_start(params.initialization, params.network, "classifier", fold)
    architecture: dict[str, Any] = {
        "network": params.network,
        "dropout": params.dropout,
        "head": params.head,
        "input_size_px": params.input_size_px,
    }

    def build(num_channels: int) -> nn.Module:
        network = TumorClassifier(num_channels, **architecture)
        if start is not None:
            start_encoder(network.backbone, start, params.network)
        return network

    recipe = NetworkRecipe(
        role="classifier", build=build, architecture=architecture, module=ClassifierTraining, start=start
    )
    train_network(
        recipe, params, fold, TrainingPaths(slices, manifest, splits, out_classifier, out_report, out_metrics)
    )
