"""The protocol of promotion: register, judge, commit to the ledger, show it in the registry.

Only the ledger entry makes a champion. Whatever dies before it leaves the old one; whatever dies after it leaves the
new one, and `recover` finishes the picture. Each step can be done twice.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tumor_cascade.errors import DataError
from tumor_cascade.network_folder import CONFIG_NAME
from tumor_cascade.object_store import ObjectStore
from tumor_cascade.product import read_artifact_json
from tumor_cascade.registry.aliases import draw_until_settled, open_chain
from tumor_cascade.registry.entries import Entry, PolicyRef, State, VersionRef
from tumor_cascade.registry.health import CASCADE_DIR
from tumor_cascade.registry.ledger import Chain, append_entry, put_evidence, read_pages
from tumor_cascade.registry.verdicts import Verdict
from tumor_cascade.registry.version_folder import pack_version
from tumor_cascade.registry.versions import CLASSIFIER, PRODUCT, SEGMENTER, ModelRegistry, compare_files, hash_files
from tumor_cascade.storage import CONTENT_NAME

COMPONENT_MODELS = {"classifiers": CLASSIFIER, "segmenters": SEGMENTER}
MAX_ROUNDS = 100


@dataclass(frozen=True)
class Stored:
    """A version and a copy of its files, checked against the ledger where it knows them.

    Attributes:
        ref: Number and content.
        folder: The copy, as the registry keeps it.
        files: Path -> SHA-256.
    """

    ref: VersionRef
    folder: Path
    files: dict[str, str]


@dataclass(frozen=True)
class Judgement:
    """What a judge says.

    Attributes:
        verdict: On the candidate.
        sentence: Why.
        data: SHA-256 of the patients it was judged on; None where it was not scored.
        pages: Name -> bytes of the decision, the comparison and the model card.
    """

    verdict: Verdict
    sentence: str
    data: str | None
    pages: dict[str, bytes]


# Candidate, champion if there is one, what the ledger says -> judgement.
Judge = Callable[[Stored, Stored | None, State], Judgement]


@dataclass(frozen=True)
class Outcome:
    """How a promotion ended.

    Attributes:
        entry: In the ledger; of an earlier run, where it had the same question.
        pages: Of its judgement.
        is_new: Whether this run wrote the entry.
    """

    entry: Entry
    pages: dict[str, bytes]
    is_new: bool

    @property
    def is_promoted(self) -> bool:
        """Whether the candidate is champion."""
        return self.entry.kind in ("promote", "rollback")


def promote(registry: ModelRegistry, store: ObjectStore, cascade: Path, policy: PolicyRef, judge: Judge) -> Outcome:
    """Register a packed cascade, have it judged against the champion, and make it champion if it is better.

    A judge who was overtaken by another champion is asked again. The same question (candidate, champion, policy,
    patients) is entered once.

    Args:
        registry: Of models.
        store: Of the ledger.
        cascade: Packed product.
        policy: That the judge goes by.
        judge: Scores and decides.

    Raises:
        DataError: The ledger or a version is damaged.
    """
    chain = open_chain(registry, store)
    with tempfile.TemporaryDirectory() as work:
        number = register_version(registry, cascade, policy, Path(work, "packed"))
        candidate = fetch(registry, name_candidate(cascade, number), Path(work, "candidate"))
        check_cascade(candidate, cascade)
        champions: dict[VersionRef | None, Stored] = {}
        for _ in range(MAX_ROUNDS):
            chain = open_chain(registry, store)
            check_files(candidate, chain)
            ref = chain.state.champion
            if ref not in (None, candidate.ref) and ref not in champions:
                champions[ref] = fetch(registry, ref, Path(work, f"champion-{ref.version}"))
                check_files(champions[ref], chain)
            outcome = settle(store, chain, candidate, champions.get(ref), policy, judge)
            if outcome is not None:
                draw_until_settled(registry, store)
                return outcome
    raise DataError(
        f"the ledger at {store.url} grew {MAX_ROUNDS} times while this candidate was judged; try again later."
    )


def settle(
    store: ObjectStore, chain: Chain, candidate: Stored, champion: Stored | None, policy: PolicyRef, judge: Judge
) -> Outcome | None:
    """Return how a candidate fares, judging it if need be; None where another entry came between."""
    if chain.state.champion == candidate.ref:
        last = chain.find_last(candidate.ref)  # a rollback, maybe, which has no pages of its own
        assert last is not None
        return recall(store, last, chain.find_promotion(candidate.ref).evidence)
    judgement = judge(candidate, champion, chain.state)
    known = find_same(chain, candidate.ref, judgement, policy)
    if known is not None:
        return recall(store, known, known.evidence)
    evidence = put_evidence(store, judgement.pages)
    entry = append_entry(
        store,
        chain,
        judgement.verdict,
        candidate.ref,
        candidate.files,
        why=judgement.sentence,
        evidence=evidence,
        policy=policy,
        data=judgement.data,
    )
    return None if entry is None else Outcome(entry, judgement.pages, is_new=True)


def recall(store: ObjectStore, entry: Entry, evidence: str | None) -> Outcome:
    """Return the outcome of an earlier run.

    Raises:
        DataError: Pages of its decision are edited or gone.
    """
    pages, faults = read_pages(store, str(evidence))
    if faults:
        raise DataError(faults, f"the decision about version {entry.to.version} is not what the ledger knows:")
    return Outcome(entry, pages, is_new=False)


def register_version(registry: ModelRegistry, cascade: Path, policy: PolicyRef, folder: Path) -> int:
    """Return the version of a packed cascade, registered with its networks if it is new."""
    content_id = read_content_id(cascade)
    found = registry.find(PRODUCT, content_id)
    if found is not None:
        return found
    components: dict[str, dict[str, Any]] = {}
    for path in (path.parent for path in sorted(cascade.glob(f"*/*/{CONFIG_NAME}"))):
        model, network_id = COMPONENT_MODELS[path.parent.name], read_content_id(path)
        version = registry.register(model, network_id, path, {"stage": f"train_{path.parent.name[:-1]}"})
        components[f"{path.parent.name}/{path.name}"] = {"model": model, "version": version, "content_id": network_id}
    pack_version(folder, cascade, components, policy)
    return registry.register(PRODUCT, content_id, folder, {"stage": "promote_cascade"})


def name_candidate(cascade: Path, number: int) -> VersionRef:
    """Return a version of a packed cascade."""
    return VersionRef(version=number, content_id=read_content_id(cascade))


def read_content_id(folder: Path) -> str:
    """Return what an artifact is made of.

    Raises:
        DataError: It does not say.
    """
    content_id = read_artifact_json(folder / CONTENT_NAME).get("content_id")
    if not isinstance(content_id, str):
        raise DataError(f"{folder.parent.name}/{folder.name}/{CONTENT_NAME} has no content_id; run its stage again.")
    return content_id


def fetch(registry: ModelRegistry, ref: VersionRef, folder: Path) -> Stored:
    """Copy a version from the registry."""
    folder.mkdir(parents=True)
    copy = registry.download(PRODUCT, ref.version, folder)
    return Stored(ref, copy, hash_files(copy))


def check_files(stored: Stored, chain: Chain) -> None:
    """Refuse a version whose files are not those that the ledger knows; of a new one it knows nothing.

    Raises:
        DataError: Naming each file.
    """
    expected = chain.find_files(stored.ref)
    if expected and (faults := compare_files(stored.files, expected)):
        raise DataError(faults, f"{PRODUCT} version {stored.ref.version} is not what the ledger knows:")


def check_cascade(candidate: Stored, cascade: Path) -> None:
    """Refuse a cascade whose content was registered with other bytes.

    Raises:
        DataError: Naming each file.
    """
    faults = compare_files(hash_files(cascade), hash_files(candidate.folder / CASCADE_DIR))
    if faults:
        raise DataError(
            faults,
            f"content {candidate.ref.content_id[:12]} stands as version {candidate.ref.version} with other bytes than "
            f"{cascade}; one of them was edited, or made with another number of threads or on another device:",
        )


def find_same(chain: Chain, ref: VersionRef, judgement: Judgement, policy: PolicyRef) -> Entry | None:
    """Return the entry of an earlier run that answered the same question since the champion last changed."""
    for entry in reversed(chain.entries):
        if entry.kind in ("promote", "rollback"):
            return None
        if (entry.to, entry.kind, entry.policy, entry.data) == (ref, judgement.verdict, policy, judgement.data):
            return entry
    return None
