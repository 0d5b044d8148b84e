"""Is a packed cascade what it says it is? Facts without a threshold, each with every fault that was found."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from tumor_cascade.content import PACKAGE_DIR, find_lock, hash_code, hash_content
from tumor_cascade.data.manifest import read_manifest
from tumor_cascade.data.split import read_split_facts
from tumor_cascade.network_folder import CONFIG_NAME
from tumor_cascade.product import read_artifact_json
from tumor_cascade.registry.checkout import Checkout, is_committed
from tumor_cascade.registry.entries import State
from tumor_cascade.registry.safe_files import find_unsafe_files
from tumor_cascade.registry.verdicts import Fact
from tumor_cascade.storage import CONTENT_NAME, hash_file, hash_path

NUM_SHOWN = 5
TRAINERS = {"classifiers": "train_classifier", "segmenters": "train_segmenter"}


def inspect_cascade(
    cascade: Path,
    *,
    report: Path,
    manifest: Path,
    splits: Path,
    policy_path: Path,
    policy_name: str,
    checkout: Checkout,
    state: State,
) -> list[Fact]:
    """Return the facts about a packed cascade.

    Args:
        cascade: Packed product.
        report: Of its evaluation, which names its bytes: nothing in a cascade has the hash of its thresholds.
        manifest: Of the data that it was made from.
        splits: Folder of `split_data`.
        policy_path: The policy has to be committed like the code.
        policy_name: And be of the kind that this registry's champions are made under.
        checkout: Of this code.
        state: Of the ledger.
    """
    networks = [path.parent for path in sorted(cascade.glob(f"*/*/{CONFIG_NAME}"))]
    contents = {path: read_artifact_json(path / CONTENT_NAME) for path in (cascade, *networks)}
    split = read_split_facts(splits)
    return [
        make_fact(
            "clean_commit",
            "Clean commit",
            "all code, the lock file and the policy are those of one commit, and made every part",
            f"commit {checkout.commit}",
            chain(find_uncommitted(checkout, policy_path), find_other_code(contents)),
        ),
        make_fact(
            "complete_chain",
            "Complete chain",
            "cascade and networks name what they were made from, down to one manifest and one split",
            f"{len(networks)} networks, one manifest, one split",
            find_gaps(cascade, contents, {"manifest": manifest, "splits": splits}),
        ),
        make_fact(
            "hashes_match",
            "Hashes match",
            "every recorded hash is that of the bytes at hand, the cascade's in its evaluation",
            f"{len(contents)} content ids, {len(networks)} networks and the cascade recomputed",
            find_edits(cascade, contents, report),
        ),
        make_fact(
            "no_pickle",
            "No pickle",
            "nothing but JSON and safetensors",
            f"{sum(path.is_file() for path in cascade.rglob('*'))} files read",
            find_unsafe_files(cascade),
        ),
        make_fact(
            "patient_level",
            "Split by patient",
            "no patient's slices on both sides, patients known by id",
            f"protocol {split.get('protocol')}",
            find_leaks(split, read_manifest(manifest)),
        ),
        make_fact(
            "not_withdrawn",
            "Not withdrawn",
            "no rollback has taken this version off",
            "never rolled back",
            find_withdrawal(contents[cascade], state),
        ),
        make_fact(
            "same_kind",
            "Same kind of data",
            "champion and candidate are judged under policies of one name",
            f"policy {policy_name}",
            find_other_kind(policy_name, state),
        ),
    ]


def make_fact(name: str, title: str, rule: str, finding: str, found: Iterable[str]) -> Fact:
    """Return a fact with a few of its faults and the number of the others."""
    faults = list(found)
    shown = faults[:NUM_SHOWN] + ([f"and {len(faults) - NUM_SHOWN} more"] if len(faults) > NUM_SHOWN else [])
    return Fact("integrity", name, title, rule, finding, tuple(shown), {})


def find_uncommitted(checkout: Checkout, policy_path: Path) -> Iterator[str]:
    """Yield what is not in git as it stands."""
    if checkout.commit is None:
        yield f"no commit is known of the code in {PACKAGE_DIR.name}; run from a git checkout or a built image"
    for name in checkout.changed:
        yield f"{name} is not as committed"
    if not is_committed(policy_path, checkout.commit):
        yield f"policy {policy_path.name} is not in the code's commit as it stands"


def find_other_code(contents: dict[Path, dict[str, Any]]) -> Iterator[str]:
    """Yield each part that other code or another lock file has made."""
    lock = hash_file(find_lock())
    for path, content in contents.items():
        stage = content.get("stage")
        if stage not in ("assemble_cascade", *TRAINERS.values()):
            continue  # said by the chain
        if content.get("code") != hash_code(stage):
            yield f"{path.name} was made by other code of {stage} than this commit's"
        if content.get("lock") != lock:
            yield f"{path.name} was made with another {find_lock().name}"


def find_gaps(cascade: Path, contents: dict[Path, dict[str, Any]], data: dict[str, Path]) -> Iterator[str]:
    """Yield where the chain from data to product breaks."""
    digests = {noun: hash_path(path) for noun, path in data.items()}
    for path, content in contents.items():
        stage = "assemble_cascade" if path == cascade else TRAINERS.get(path.parent.name, "")
        if content.get("stage") != stage:
            yield f"{path.parent.name}/{path.name} does not come from {stage or 'any training'}"
        inputs = content.get("inputs", {})
        for noun, digest in digests.items():
            if inputs.get(noun) != digest:
                yield f"{path.name} was made from another {noun}"
    named = set(contents[cascade].get("inputs", {})) - set(data)
    held = {name_network(path) for path in contents if path != cascade}
    for name in sorted(named ^ held):
        yield f"the cascade names {name} and does not hold it" if name in named else f"nothing names {name}"


def find_edits(cascade: Path, contents: dict[Path, dict[str, Any]], report: Path) -> Iterator[str]:
    """Yield what has other bytes than recorded."""
    recorded = contents[cascade].get("inputs", {})
    for path, content in contents.items():
        if hash_content(content) != content.get("content_id"):
            yield f"{path.name}/{CONTENT_NAME} is not what its content_id was taken over"
        if path != cascade and hash_path(path) != recorded.get(name_network(path)):
            yield f"{name_network(path)} has other bytes than the cascade was made from"
    evaluated = read_artifact_json(report / CONTENT_NAME) if (report / CONTENT_NAME).is_file() else {}
    is_true = hash_content(evaluated) == evaluated.get("content_id")
    if not is_true or evaluated.get("inputs", {}).get("cascade") != hash_path(cascade):
        yield (
            f"{report.name} is no evaluation of these bytes: they were edited since, or it is another cascade's; "
            "run evaluate_cascade, or name its --report"
        )


def name_network(path: Path) -> str:
    """Return a network's name in the cascade's inputs, e.g. `classifiers/fold-0`."""
    return f"{path.parent.name}/{path.name}"


def find_leaks(split: dict[str, Any], rows: pd.DataFrame) -> Iterator[str]:
    """Yield what makes the split that a cascade was made from unfit."""
    if split.get("is_leaky") is not False or split.get("protocol") != "patient_level":
        yield f"split under {split.get('protocol')}: slices of one patient on both sides"
    if not rows["has_patient_ids"].all():
        yield "the data have no patient ids, so nobody can say who is who"


def find_withdrawal(content: dict[str, Any], state: State) -> Iterator[str]:
    """Yield the rollback that took a version off."""
    if sequence := state.withdrawn.get(str(content.get("content_id"))):
        yield (
            f"ledger entry {sequence} rolled it back; `tumor-cascade registry rollback --to` brings it back on purpose"
        )


def find_other_kind(policy_name: str, state: State) -> Iterator[str]:
    """Yield the policy of another name that this registry's champions are made under."""
    if state.policy_name not in (None, policy_name):
        yield (
            f"champions of this registry are made under policy {state.policy_name}, for other data than {policy_name}; "
            "use another registry (MLFLOW_TRACKING_URI)"
        )
