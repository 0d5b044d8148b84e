"""The product: a cascade as a folder that is read back checked; no pickle.

It holds `cascade.json`, `content.json` and one network folder per network under `classifiers/` and `segmenters/`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from tumor_cascade.data.preprocessing import Preprocessing
from tumor_cascade.errors import DataError
from tumor_cascade.models.cascade import Cascade
from tumor_cascade.models.classifier import TumorClassifier
from tumor_cascade.models.decision import CascadeSettings
from tumor_cascade.models.resunet import ResUNet
from tumor_cascade.models.scoring import ScoringNetwork
from tumor_cascade.network_folder import CONFIG_NAME, WEIGHTS_NAME, Role

CASCADE_NAME = "cascade.json"
REMEDY = "make it again with the stage that writes it, or `dvc checkout`."


def build_network(role: Role, architecture: dict[str, Any]) -> nn.Module:
    """Return a network with fresh weights from its architecture: the keyword arguments of its class."""
    return TumorClassifier(**architecture) if role == "classifier" else ResUNet(**architecture)


def read_network(folder: Path) -> tuple[ScoringNetwork, dict[str, Any]]:
    """Return a trained network ready to score, and its config.

    Raises:
        DataError: A file is missing, damaged, or the weights do not fit the architecture.
    """
    config = read_artifact_json(folder / CONFIG_NAME)
    try:
        network = build_network(config["role"], config["architecture"])
        network.load_state_dict(load_file(folder / WEIGHTS_NAME), strict=True)
        preprocessing = Preprocessing(**config["preprocessing"])
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise DataError(
            f"network {folder.name}: cannot be loaded ({type(error).__name__}: {error}); {REMEDY}"
        ) from error
    return ScoringNetwork(network.eval(), preprocessing), config


def find_networks(folder: Path, folds: list[int]) -> list[Path]:
    """Return the network folders `fold-<k>/<role>` of the wanted folds under a training's output.

    Raises:
        DataError: A fold was not trained.
    """
    # Hidden folders are what an interrupted write left.
    found = {fold: sorted((folder / f"fold-{fold}").glob(f"[!.]*/{CONFIG_NAME}")) for fold in folds}
    missing = [str(fold) for fold, paths in found.items() if not paths]
    if missing:
        raise DataError(
            f"{folder} has no network of fold {', '.join(missing)}; train it, or change assemble_cascade.folds."
        )
    return [paths[0].parent for paths in found.values()]


def read_seen_patients(folder: Path, fold: int | None = None) -> tuple[set[str], set[str]]:
    """Return the patients that any network of a cascade was trained on, and validated on, as `hash_patient` names them.

    Args:
        folder: Packed cascade.
        fold: Ask the networks of this fold alone.

    Raises:
        DataError: A network does not say what it has seen.
    """
    pattern = f"*/{'*' if fold is None else f'fold-{fold}'}/{CONFIG_NAME}"
    configs = [read_artifact_json(path) for path in sorted(folder.glob(pattern))]
    try:
        parts = [
            {name for config in configs for name in config[f"{part}_patients"]} for part in ("training", "validation")
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"cascade {folder.name} does not say whom it has learned from ({error}); {REMEDY}") from error
    return parts[0], parts[1]


def load_cascade(folder: Path) -> Cascade:
    """Return a packed cascade of all its networks, on the CPU.

    Raises:
        DataError: A part is missing or damaged.
    """
    return _load(folder, "*", read_settings(folder))


def load_fold_cascade(folder: Path, fold: int) -> Cascade:
    """Return a packed cascade's networks of one fold, with settings that may judge the fold's validation patients.

    Raises:
        DataError: A part is missing or damaged.
    """
    return _load(folder, f"fold-{fold}", read_settings(folder, fold))


def read_settings(folder: Path, fold: int | None = None) -> CascadeSettings:
    """Return the settings of a packed cascade, or those that may judge the validation patients of a fold.

    Raises:
        DataError: They are missing or damaged.
    """
    product = read_artifact_json(folder / CASCADE_NAME)
    with _explain_misfit(folder):
        return CascadeSettings.from_json(
            product["settings"] if fold is None else product["out_of_fold_settings"][str(fold)]
        )


def list_folds(folder: Path) -> list[int]:
    """Return the folds whose validation patients a packed cascade may be judged by, sorted.

    Raises:
        DataError: The cascade does not say.
    """
    product = read_artifact_json(folder / CASCADE_NAME)
    with _explain_misfit(folder):
        return sorted(map(int, product["out_of_fold_settings"]))


def _load(folder: Path, pattern: str, settings: CascadeSettings) -> Cascade:
    networks = {}
    for role in ("classifiers", "segmenters"):
        folders = sorted(path for path in (folder / role).glob(pattern) if path.is_dir())
        networks[role] = [read_network(path)[0] for path in folders]
    with _explain_misfit(folder):
        return Cascade(networks["classifiers"], networks["segmenters"], settings)


@contextmanager
def _explain_misfit(folder: Path) -> Iterator[None]:
    """Turn what cannot be made of a product's JSON into an error that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"cascade {folder.name}: {CASCADE_NAME} does not fit ({error}); {REMEDY}") from error


def read_artifact_json(path: Path) -> dict[str, Any]:
    """Return the object in an artifact's JSON file.

    Raises:
        DataError: The file is missing or holds no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path.parent.name}/{path.name} cannot be read ({type(error).__name__}); {REMEDY}") from error
    if not isinstance(value, dict):
        raise DataError(f"{path.parent.name}/{path.name} holds no JSON object; {REMEDY}")
    return value
