"""What a whole pipeline is made of, with one name: the same at every stage, from every way of running them."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tumor_cascade.content import find_lock, hash_code
from tumor_cascade.params import STAGES, parse_params
from tumor_cascade.storage import canonical_json, hash_file

# Validation lets data pass or stops them; it changes no result, and later stages know nothing of it.
IDENTIFYING_STAGES = tuple(stage for stage in STAGES if stage != "validate_data")


@dataclass(frozen=True)
class Recipe:
    """Data, params, code and lock of all stages that shape the result.

    Attributes:
        manifest: SHA-256 of `manifest.parquet`, which holds the hash of every slice.
        params: Stage -> its section of params.yaml.
        code: Stage -> SHA-256 of the code that it needs.
        lock: SHA-256 of the lock file.
    """

    manifest: str
    params: Mapping[str, Any]
    code: Mapping[str, str]
    lock: str

    @classmethod
    def of_today(cls, values: dict[str, Any], manifest: Path) -> "Recipe | None":
        """Return what the pipeline would be made of now; None in a pod, which is given a part of the params alone.

        Args:
            values: Of the params file.
            manifest: `manifest.parquet` of `ingest_data`.

        Raises:
            ParamsError: A value breaks its rule.
        """
        if not set(STAGES) <= set(values):
            return None
        params = parse_params(values, "params").model_dump(mode="json")
        return cls(hash_file(manifest), params, {stage: hash_code(stage) for stage in STAGES}, hash_file(find_lock()))

    @classmethod
    def of_contents(cls, contents: Iterable[Mapping[str, Any]]) -> "Recipe | None":
        """Return what outputs say that they are made of; None where a stage is missing or two do not fit together.

        Args:
            contents: `content.json` of outputs; any number of folds of a training.
        """
        params: dict[str, Any] = {}
        code: dict[str, str] = {}
        manifests, locks = set[str](), set[str]()
        for content in contents:
            stage, section = content["stage"], get_section(content)
            if (
                params.setdefault(stage, section) != section
                or code.setdefault(stage, content["code"]) != content["code"]
            ):
                return None
            locks.add(content["lock"])
            if stage != "ingest_data":
                manifests.add(content["inputs"]["manifest"])
        if len(locks) != 1 or len(manifests) != 1 or not set(IDENTIFYING_STAGES) <= set(params):
            return None
        return cls(manifests.pop(), params, code, locks.pop())

    @cached_property
    def content_id(self) -> str:
        """Return the name: SHA-256 over everything here but `validate_data`."""
        kept = {
            key: {stage: value[stage] for stage in IDENTIFYING_STAGES} if isinstance(value, Mapping) else value
            for key, value in asdict(self).items()
        }
        return hashlib.sha256(canonical_json(kept)).hexdigest()


def get_section(content: Mapping[str, Any]) -> Any:
    """Return the params section in a `content.json`, without flags that stand beside it."""
    params = content["params"]
    return params.get(content["stage"], params)
