"""What people do about the registry by hand: recover, roll back, audit, list."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.object_store import ObjectStore
from tumor_cascade.registry.aliases import (
    HEAD_TAG,
    LEDGER_TAG,
    draw_until_settled,
    find_lost_head,
    list_aliases,
    list_tags,
    open_chain,
    read_card,
)
from tumor_cascade.registry.entries import Entry, VersionRef
from tumor_cascade.registry.ledger import Chain, append_entry, read_chain, read_pages
from tumor_cascade.registry.promotion import check_files, fetch
from tumor_cascade.registry.runs import CONTENT_TAG
from tumor_cascade.registry.versions import (
    CLASSIFIER,
    PRODUCT,
    SEGMENTER,
    ModelRegistry,
    Registered,
    compare_files,
    hash_files,
)


def recover(registry: ModelRegistry, store: ObjectStore) -> list[str]:
    """Make the registry what the ledger says, and delete what an interrupted registration has left twice.

    Returns:
        A line for each change.
    """
    chain = open_chain(registry, store)
    changes = []
    for one in find_twins(registry, chain):
        registry.delete(one.name, one.ref.version)
        changes.append(f"{one.name} version {one.ref.version}: deleted, a second one of {one.ref.content_id[:12]}")
    return changes + draw_until_settled(registry, store)


def find_twins(registry: ModelRegistry, chain: Chain) -> list[Registered]:
    """Return versions of a content that has a lower one; what the ledger knows stays."""
    known = {entry.to for entry in chain.entries}
    twins = []
    for name in (PRODUCT, CLASSIFIER, SEGMENTER):
        seen = set[str]()
        for one in (one for one in registry.list_versions(name) if CONTENT_TAG in one.tags):  # others are unlike any
            if one.ref.content_id in seen and not (name == PRODUCT and one.ref in known):
                twins.append(one)
            seen.add(one.ref.content_id)
    return twins


def roll_back(registry: ModelRegistry, store: ObjectStore, why: str, version: int | None = None) -> Entry:
    """Return to the champion before, or to any earlier one, with a ledger entry of its own.

    Args:
        registry: Of models.
        store: Of the ledger.
        why: In a sentence; it stays for good.
        version: To return to; None: the alias `previous`.

    Raises:
        ParamsError: There is nothing to return to, or the version never was champion.
        DataError: Its files are not what the ledger knows, or somebody promoted meanwhile.
    """
    chain = open_chain(registry, store)
    target = choose_target(chain, version)
    with tempfile.TemporaryDirectory() as work:
        stored = fetch(registry, target, Path(work, "target"))
    check_files(stored, chain)
    entry = append_entry(store, chain, "rollback", target, stored.files, why=why)
    if entry is None:
        raise DataError(
            f"somebody wrote ledger entry {len(chain.entries) + 1} meanwhile and nothing was rolled back; see "
            "`tumor-cascade registry list`, then decide again."
        )
    draw_until_settled(registry, store)
    return entry


def choose_target(chain: Chain, version: int | None) -> VersionRef:
    """Return the version to roll back to.

    Raises:
        ParamsError: There is none, or it never was champion.
    """
    state = chain.state
    former = [entry.to for entry in chain.entries if state.has_been_champion(entry.to) and entry.to != state.champion]
    if version is None:
        if state.previous is None:
            raise ParamsError("there is no earlier champion to roll back to; promote another version instead.")
        return state.previous
    found = next((ref for ref in former if ref.version == version), None)
    if found is None:
        numbers = ", ".join(str(number) for number in sorted({ref.version for ref in former})) or "none"
        raise ParamsError(f"version {version} is no former champion; must be one of: {numbers}.")
    return found


@dataclass(frozen=True)
class Listed:
    """A version as `registry list` shows it."""

    ref: VersionRef
    aliases: tuple[str, ...]
    entry: Entry | None


def list_registered(registry: ModelRegistry, chain: Chain) -> list[Listed]:
    """Return all versions of `tumor-cascade` with their aliases and last ledger entries."""
    aliases, _ = registry.read_model()
    return [
        Listed(
            one.ref,
            tuple(sorted(alias for alias, version in aliases.items() if version == one.ref.version)),
            chain.find_last(one.ref),
        )
        for one in registry.list_versions(PRODUCT)
    ]


def read_model_card(registry: ModelRegistry, store: ObjectStore, chain: Chain, wanted: str) -> str:
    """Return the model card of a version, by number or alias, as it was when it was judged last.

    Raises:
        ParamsError: There is no such version, or it was never judged.
    """
    aliases, _ = registry.read_model()
    refs = {str(one.ref.version): one.ref for one in registry.list_versions(PRODUCT)}
    refs |= {alias: refs[str(number)] for alias, number in aliases.items() if str(number) in refs}
    if wanted not in refs:
        remedy = f"must be one of {', '.join(refs)}" if refs else "none is registered yet"
        raise ParamsError(f"{wanted} is no version; {remedy}.")
    text = read_card(store, chain, refs[wanted])
    if not text:
        raise ParamsError(f"version {wanted} was never judged; run `tumor-cascade promote_cascade`.")
    return text


def audit(registry: ModelRegistry, store: ObjectStore) -> list[str]:
    """Return every difference between ledger, registry and files, a line each; nothing is changed."""
    aliases, tags = registry.read_model()
    chain = read_chain(store)
    findings = [*chain.faults, *find_lost_head(chain, tags)]
    if tags.get(LEDGER_TAG, store.url) != store.url:
        findings.append(f"the registry names {tags[LEDGER_TAG]} as its ledger; this is {store.url}")
    if not findings and chain.entries and tags.get(HEAD_TAG) != chain.head:
        findings.append("the registry does not show the last ledger entry: `tumor-cascade registry recover`")
    versions = {one.ref.version: one for one in registry.list_versions(PRODUCT)}
    findings += audit_aliases(aliases, chain)
    for twin in find_twins(registry, chain):
        findings.append(f"{twin.name} version {twin.ref.version} is a second one of content {twin.ref.content_id[:12]}")
    for name in (CLASSIFIER, SEGMENTER):
        findings += [f"{name} carries the alias {alias}; only {PRODUCT} may" for alias in registry.read_model(name)[0]]
    strangers = [one for one in versions.values() if CONTENT_TAG not in one.tags]
    findings += [f"{PRODUCT} version {one.ref.version} was registered by hand: no {CONTENT_TAG}" for one in strangers]
    findings += audit_evidence(store, chain)
    for ref in {entry.to: None for entry in chain.entries}:
        findings += audit_version(registry, chain, ref, versions.get(ref.version))
    return findings


def audit_aliases(aliases: dict[str, int], chain: Chain) -> Iterator[str]:
    """Yield each alias that is not where the ledger has it."""
    number = len(chain.entries)
    wanted = {alias: ref.version if ref else None for alias, ref in list_aliases(chain.state).items()}
    for alias in sorted(set(wanted) | set(aliases)):
        if alias not in wanted:
            yield f"alias {alias} is none of this project's: somebody set it by hand"
        elif aliases.get(alias) != wanted[alias]:
            yield (
                f"alias {alias} points to version {aliases.get(alias, 'none')}; after ledger entry {number} it is "
                f"{wanted[alias] or 'none'}: moved by hand, or a projection was interrupted"
            )


def audit_evidence(store: ObjectStore, chain: Chain) -> Iterator[str]:
    """Yield each file of a decision that is gone or edited."""
    for entry in (entry for entry in chain.entries if entry.evidence is not None):
        for fault in read_pages(store, str(entry.evidence))[1]:
            yield f"the decision of ledger entry {entry.sequence}: {fault}"


def audit_version(registry: ModelRegistry, chain: Chain, ref: VersionRef, found: Registered | None) -> Iterator[str]:
    """Yield what is wrong with a version that the ledger knows: its tags, and every file of it."""
    name = f"{PRODUCT} version {ref.version}"
    if found is None:
        yield f"{name} was deleted"
        return
    if found.ref != ref:
        yield f"{name} has content {found.ref.content_id[:12]}; the ledger knows it as {ref.content_id[:12]}"
    for key, value in list_tags(chain, ref).items():
        if found.tags.get(key) != value:
            yield f"{name}: tag {key} is {found.tags.get(key, 'missing')}, not {value}"
    with tempfile.TemporaryDirectory() as work:
        try:
            files = hash_files(registry.download(PRODUCT, ref.version, Path(work)))
        except DataError as error:
            yield str(error)
            return
    for line in compare_files(files, chain.find_files(ref)):
        yield f"{name}: {line}"
