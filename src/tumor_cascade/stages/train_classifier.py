"""`train_classifier`: ResNet, does this slice show tumor?"""

from pathlib import Path

from torch import nn

from tumor_cascade.errors import DataError
from tumor_cascade.models.classifier import TumorClassifier, load_backbone
from tumor_cascade.params import TrainClassifierParams
from tumor_cascade.training.classification import ClassifierTraining
from tumor_cascade.training.initialization import NO_INITIALIZATION, fetch_weights, read_weights
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
    weights = (
        None if params.initialization == NO_INITIALIZATION else fetch_weights(params.initialization, params.network)
    )

    def build(num_channels: int) -> nn.Module:
        network = TumorClassifier(num_channels, params.network, params.dropout)
        if weights is not None:
            try:
                load_backbone(network, read_weights(weights.path))
            except ValueError as error:
                raise DataError(
                    f"weights {weights.path.name} are none of a {params.network} ({str(error)[:200]} ...); must have "
                    "the names and shapes of torchvision's. Give others, or change train_classifier.network."
                ) from error
        return network

    recipe = NetworkRecipe(
        role="classifier",
        build=build,
        architecture={"network": params.network, "dropout": params.dropout},
        module=ClassifierTraining,
        facts={} if weights is None else {"initialization_sha256": weights.sha256},
    )
    train_network(
        recipe, params, fold, TrainingPaths(slices, manifest, splits, out_classifier, out_report, out_metrics)
    )
