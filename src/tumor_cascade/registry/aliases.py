"""Aliases, tags and descriptions in the registry: a picture of the ledger, drawn again as often as needed."""

import re

from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.object_store import ObjectStore
from tumor_cascade.registry.entries import State, VersionRef
from tumor_cascade.registry.ledger import Chain, read_chain, read_pages, require_sound
from tumor_cascade.registry.versions import MAX_DESCRIPTION, PRODUCT, ModelRegistry, Registered

ALIASES = ("champion", "challenger", "previous")
LEDGER_TAG, HEAD_TAG, VERDICT_TAG, ENTRY_TAG = "ledger", "ledger_head", "verdict", "ledger_entry"
VERDICTS = {"promote": "promoted", "refuse": "refused", "abstain": "not decided", "rollback": "rolled back to"}
CARD_NAME = "model_card.md"


def open_chain(registry: ModelRegistry, store: ObjectStore) -> Chain:
    """Return the ledger of a registry, checked in itself and against what the registry remembers of it.

    Raises:
        ParamsError: The registry's ledger is kept elsewhere.
        DataError: Entries are edited or gone.
    """
    _, tags = registry.read_model()  # before the ledger, so that what is remembered is never the newer one
    if tags.get(LEDGER_TAG, store.url) != store.url:
        raise ParamsError(
            f"the ledger of this registry is at {tags[LEDGER_TAG]}, not at {store.url}; set TUMOR_CASCADE_LEDGER to it."
        )
    chain = read_chain(store)
    return require_sound(Chain(chain.entries, chain.digests, (*chain.faults, *find_lost_head(chain, tags))), store)


def find_lost_head(chain: Chain, tags: dict[str, str]) -> list[str]:
    """Return what contradicts the head that the registry remembers: the one edit that the chain itself cannot show."""
    if HEAD_TAG not in tags:
        return []
    head = re.fullmatch(r"([1-9][0-9]{0,9}) ([0-9a-f]{64})", tags[HEAD_TAG])
    if head is None:
        return [f"the registry's tag {HEAD_TAG} is no number and hash of an entry; put it back, or delete it"]
    number = int(head[1])
    if number > len(chain.entries):
        return [f"ledger entry {number} is gone: the registry remembers it"]
    if chain.digests[number - 1] != head[2]:
        return [f"ledger entry {number} was edited: the registry remembers another hash"]
    return []


def list_aliases(state: State) -> dict[str, VersionRef | None]:
    """Return what each alias must point to; None where it must not exist."""
    return dict(zip(ALIASES, (state.champion, state.challenger, state.previous), strict=True))


def require_alias(chain: Chain, alias: str, version: int | None) -> None:
    """Refuse a version that an alias points to in the registry and not in the ledger; other aliases are nobody's.

    Raises:
        DataError: Naming both.
    """
    if alias not in ALIASES:
        return
    ref = list_aliases(chain.state)[alias]
    known = None if ref is None else ref.version
    if version != known:
        raise DataError(
            f"{PRODUCT}@{alias} is version {version} in the registry; by the ledger, which decides, it is "
            f"{known or 'none'}: the alias was moved by hand, or a promotion goes on or was interrupted. "
            "`tumor-cascade registry audit` shows what differs, `tumor-cascade registry recover` puts it right."
        )


def list_tags(chain: Chain, ref: VersionRef) -> dict[str, str]:
    """Return the tags of a version that the ledger knows."""
    entry = chain.find_last(ref)
    return {} if entry is None else {VERDICT_TAG: VERDICTS[entry.kind], ENTRY_TAG: str(entry.sequence)}


def draw_until_settled(registry: ModelRegistry, store: ObjectStore) -> list[str]:
    """Make aliases, tags and descriptions what the ledger says, until it has not grown meanwhile.

    Of several that do this at once, a late one may undo a newer picture; it then sees the newer ledger and draws again.

    Returns:
        A line for each change.

    Raises:
        DataError: The ledger is broken, or its champion is not in the registry.
    """
    changes = []
    while True:
        chain = open_chain(registry, store)
        changes += draw(registry, store, chain)
        if read_chain(store).head == chain.head:
            return changes


def draw(registry: ModelRegistry, store: ObjectStore, chain: Chain) -> list[str]:
    """Make the registry what a chain says; what is right is not touched. The remembered head comes last."""
    if not chain.entries:
        return []
    versions = {one.ref: one for one in registry.list_versions(PRODUCT)}
    changes = []
    for ref in {entry.to: None for entry in chain.entries if entry.to in versions}:
        changes += draw_version(registry, store, chain, versions[ref])
    current, tags = registry.read_model()
    for alias, wanted in list_aliases(chain.state).items():
        if alias == "champion" and wanted is not None and wanted not in versions:
            raise DataError(
                f"the ledger's champion, version {wanted.version} of content {wanted.content_id[:12]}, is not in the "
                "registry; roll back to one that is: `tumor-cascade registry rollback`."
            )
        number = wanted.version if wanted in versions and wanted is not None else None
        if current.get(alias) != number:
            registry.set_alias(alias, number)
            changes.append(f"alias {alias}: {current.get(alias, 'none')} -> {number or 'none'}")
    for key, value in ((LEDGER_TAG, store.url), (HEAD_TAG, chain.head)):
        if tags.get(key) != value:
            registry.set_model_tag(key, value)
    return changes


def draw_version(registry: ModelRegistry, store: ObjectStore, chain: Chain, one: Registered) -> list[str]:
    """Give a version the tags and the description that the ledger has for it."""
    changes = []
    for key, value in list_tags(chain, one.ref).items():
        if one.tags.get(key) != value:
            registry.set_version_tag(one.ref.version, key, value)
            changes.append(f"version {one.ref.version}: {key} {one.tags.get(key, 'none')} -> {value}")
    card = read_card(store, chain, one.ref)
    if card and card != one.description:
        registry.set_description(one.ref.version, card)
        changes.append(f"version {one.ref.version}: model card")
    return changes


def read_card(store: ObjectStore, chain: Chain, ref: VersionRef) -> str:
    """Return a version's model card, as long as a description may be: of the last judgement that scored it if any did.

    Without a judgement there is none, and the text is empty; so it is where the card was edited.
    """
    judged = [entry for entry in chain.entries if entry.to == ref and entry.evidence]
    told = [entry for entry in judged if entry.data] or judged
    pages = read_pages(store, str(told[-1].evidence))[0] if told else {}
    return pages.get(CARD_NAME, b"").decode()[:MAX_DESCRIPTION]
