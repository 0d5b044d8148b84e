"""The cache key of a task: equal for equal results, whatever the image around the code is called."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from tumor_cascade.content import hash_making
from tumor_cascade.storage import canonical_json


def compute_cache_key(stage: str, arguments: Mapping[str, Any], upstream: Sequence[str]) -> str:
    """Return the SHA-256 over all that a stage's result is made of.

    Kubeflow's own key holds names of artifacts, not their contents, and the image: one new digest would rerun all.

    Args:
        stage: Its name.
        arguments: Its params sections, fold, and the reference of the data where it reads any.
        upstream: Keys of the tasks whose outputs it reads, or that it waits for.
    """
    made_of = {
        "stage": stage,
        "arguments": dict(arguments),
        "making": hash_making(stage),
        "upstream": sorted(upstream),
    }
    return hashlib.sha256(canonical_json(made_of)).hexdigest()
