"""A trained network as a folder: safetensors and JSON, no pickle.

It holds `weights.safetensors`, `config.json` (architecture and preprocessing) and `content.json`.
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save_file
from torch import Tensor

from tumor_cascade.storage import CONTENT_NAME, write_json

Role = Literal["classifier", "segmenter"]
WEIGHTS_NAME, CONFIG_NAME = "weights.safetensors", "config.json"


def write_network(folder: Path, config: dict[str, Any], weights: dict[str, Tensor], content: dict[str, Any]) -> None:
    """Write a network into an empty folder (one that the caller swaps in as a whole).

    Args:
        folder: Existing folder.
        config: `role`, `architecture`, `preprocessing`, and facts about the training.
        weights: State dict.
        content: See `content.describe_content`.
    """
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / WEIGHTS_NAME)
    write_json(folder / CONFIG_NAME, config)
    write_json(folder / CONTENT_NAME, content)


def hash_patient(patient_id: str) -> str:
    """Return the name under which a network remembers a patient that it has seen."""
    return hashlib.sha256(patient_id.encode()).hexdigest()
