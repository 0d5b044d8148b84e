"""Starting weights of an encoder: ImageNet's, a file, one of our own networks, or none; never a silent fallback."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.models.encoders import Encoder, load_encoder
from tumor_cascade.network_folder import CONFIG_NAME, WEIGHTS_NAME, Role, hash_patient
from tumor_cascade.storage import hash_file
from tumor_cascade.training.published_weights import fetch_imagenet, read_weights

NO_INITIALIZATION = "none"
IMAGENET = "imagenet"
ENCODER_PREFIXES = {"classifier": "backbone.", "segmenter": "encoder."}


@dataclass(frozen=True)
class StartingWeights:
    """A local file of an encoder's starting weights.

    Attributes:
        path: State dict, as safetensors or a torch file.
        sha256: What enters `content_id`.
        config: Of the network folder that the file stands in; empty for weights that are not ours.
    """

    path: Path
    sha256: str
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """What to call them in messages."""
        return self.path.parent.name if self.config else self.path.name

    @property
    def training_patients(self) -> frozenset[str]:
        """Patients of ours that they have learned from, as `hash_patient` names them."""
        return frozenset(self.config.get("training_patients", ()))


def find_start(initialization: str, network: str, role: Role, fold: int) -> StartingWeights | None:
    """Return the starting weights that params ask for, fetched if need be, or None for a random start.

    Args:
        initialization: `none`, `imagenet`, the path of a state dict (.safetensors, .pth, .pt), or the folder of a
            trained network; `{fold}` in a path becomes the fold's number.
        network: Kind of encoder.
        role: Whose training starts.
        fold: Its validation fold.

    Raises:
        ParamsError: The path does not exist.
        DataError: ImageNet weights cannot be had, or a network folder is damaged.
    """
    if initialization == NO_INITIALIZATION:
        return None
    if initialization == IMAGENET:
        return StartingWeights(*fetch_imagenet(network), config={})
    path = Path(initialization.replace("{fold}", str(fold)))
    if path.is_file():
        return StartingWeights(path, hash_file(path), config={})
    if not (path / WEIGHTS_NAME).is_file():
        raise ParamsError(
            f"params.yaml: train_{role}.initialization is {initialization!r}; must be none, imagenet, an existing file "
            "or the folder of a trained network. Correct the path."
        )
    return StartingWeights(path / WEIGHTS_NAME, hash_file(path / WEIGHTS_NAME), _read_config(path))


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        lists = [config[f"{part}_patients"] for part in ("training", "validation")]
        if config["role"] not in ENCODER_PREFIXES or not all(isinstance(names, list) for names in lists):
            raise ValueError("role or patients")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"network {folder.name}: {CONFIG_NAME} does not say what it is and whom it has learned from "
            f"({type(error).__name__}); train it again, or give other weights."
        ) from error
    return config


def check_patients(start: StartingWeights, validation: Iterable[str], test: Iterable[str]) -> None:
    """Refuse starting weights of ours that know patients who are to judge the new network.

    Args:
        start: Weights; those that are not ours have seen no patient.
        validation: Ids of the fold's validation patients.
        test: Ids of the locked test patients.

    Raises:
        DataError: They were trained on any of these patients, or chosen by test patients.
    """
    validation_names, test_names = ({hash_patient(patient) for patient in part} for part in (validation, test))
    seen = start.training_patients & (validation_names | test_names)
    seen |= test_names.intersection(start.config.get("validation_patients", ()))
    if seen:
        raise DataError(
            f"starting weights {start.name} have seen {len(seen)} of this fold's validation and test patients; must be "
            "none, or its metrics mean nothing. Start from a network of the same splits and the same fold ({fold} in "
            "the path is the fold's number)."
        )


def start_encoder(encoder: Encoder, start: StartingWeights, network: str) -> None:
    """Load starting weights into an encoder.

    Raises:
        DataError: They cannot be read, or are those of another kind of encoder.
    """
    try:
        load_encoder(encoder, _select_encoder(start))
    except ValueError as error:
        raise DataError(
            f"weights {start.name} are none of a {network} ({str(error)[:200]} ...); must have the names and shapes of "
            "the published ones, or be a network of ours with this encoder. Give others, or another network."
        ) from error


def _select_encoder(start: StartingWeights) -> dict[str, Tensor]:
    prefix = ENCODER_PREFIXES[start.config["role"]] if start.config else ""
    weights = read_weights(start.path)
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
