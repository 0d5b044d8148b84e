"""The ledger of promotions: one numbered entry per verdict, each holding the hash of the one before.

Entry n + 1 is made by compare-and-create, and that creation is the act: what stands in the ledger has happened, what
does not has not. Aliases in the model registry only show what the ledger says.
"""

import datetime
import getpass
import hashlib
import json
import re
import secrets
from dataclasses import dataclass

from pydantic import ValidationError

from tumor_cascade.errors import DataError
from tumor_cascade.object_store import ObjectStore
from tumor_cascade.registry.entries import Entry, Kind, PolicyRef, State, VersionRef

LEDGER_PREFIX, EVIDENCE_PREFIX = "ledger/", "evidence/"
DECISION_NAME = "decision.json"  # lists the other files of a decision, under `files`
FIRST_PREVIOUS = "0" * 64


@dataclass(frozen=True)
class Chain:
    """The entries as they were read, and what is wrong with them.

    Attributes:
        entries: In order.
        digests: SHA-256 of each one's bytes.
        faults: What does not fit, a line each; with any, nothing may be decided on this ledger.
    """

    entries: tuple[Entry, ...]
    digests: tuple[str, ...]
    faults: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        """What the entries amount to."""
        state = State()
        for entry in self.entries:
            state = state.advance(entry)
        return state

    @property
    def head(self) -> str:
        """Number and hash of the last entry, as the registry shows them."""
        return f"{len(self.entries)} {self.digests[-1]}" if self.entries else ""

    def find_files(self, ref: VersionRef) -> dict[str, str]:
        """Return path -> SHA-256 of a version's files, as its last entry says."""
        return next((entry.files for entry in reversed(self.entries) if entry.to == ref), {})

    def find_promotion(self, ref: VersionRef) -> Entry:
        """Return the last entry that promoted a version which is or was champion."""
        return next(entry for entry in reversed(self.entries) if entry.to == ref and entry.kind == "promote")

    def find_last(self, ref: VersionRef) -> Entry | None:
        """Return the last entry about a version."""
        return next((entry for entry in reversed(self.entries) if entry.to == ref), None)


def name_entry(sequence: int) -> str:
    """Return the key of an entry."""
    return f"{LEDGER_PREFIX}{sequence:010d}.json"


def read_chain(store: ObjectStore) -> Chain:
    """Read all entries and check each against the one before."""
    faults: list[str] = []
    sequences = []
    for key in store.list_keys(LEDGER_PREFIX):
        match = re.fullmatch(rf"{LEDGER_PREFIX}(\d{{10}})\.json", key)
        if match:
            sequences.append(int(match[1]))
        else:
            faults.append(f"{key} is no ledger entry; somebody put it there")
    if sequences != list(range(1, len(sequences) + 1)):
        missing = sorted(set(range(1, max(sequences) + 1)) - set(sequences))
        faults.append(f"ledger entries are missing: {', '.join(map(str, missing))}")
    entries: list[Entry] = []
    digests: list[str] = []
    state = State()
    for sequence in sequences:
        content = store.get(name_entry(sequence)) or b""
        try:
            entry = Entry.model_validate_json(content)
        except ValidationError as error:
            faults.append(f"ledger entry {sequence} cannot be read: {error.errors()[0]['msg']}")
            break
        faults += check_entry(entry, sequence, digests[-1] if digests else FIRST_PREVIOUS, state)
        state = state.advance(entry)
        entries.append(entry)
        digests.append(hashlib.sha256(content).hexdigest())
    return Chain(tuple(entries), tuple(digests), tuple(faults))


def check_entry(entry: Entry, sequence: int, previous: str, state: State) -> list[str]:
    """Return what is wrong with an entry, given its place and what came before."""
    faults = []
    if entry.sequence != sequence:
        faults.append(f"ledger entry {sequence} calls itself {entry.sequence}; it was moved or edited")
    if entry.previous != previous:
        faults.append(f"ledger entry {sequence - 1} is not the one that entry {sequence} was written after; edited")
    if entry.champion != state.champion:
        faults.append(f"ledger entry {sequence} starts from another champion than the entries before it leave; edited")
    if entry.kind == "rollback" and not state.has_been_champion(entry.to):
        faults.append(
            f"ledger entry {sequence} returns to version {entry.to.version}, which never was champion; edited"
        )
    return faults


def require_sound(chain: Chain, store: ObjectStore) -> Chain:
    """Return a chain without faults.

    Raises:
        DataError: With every fault.
    """
    if chain.faults:
        remedy = "nothing was changed; restore the entries from a backup, then run `tumor-cascade registry audit`:"
        raise DataError(chain.faults, f"the ledger at {store.url} does not hold together, {remedy}")
    return chain


def append_entry(
    store: ObjectStore,
    chain: Chain,
    kind: Kind,
    to: VersionRef,
    files: dict[str, str],
    *,
    why: str,
    evidence: str | None = None,
    policy: PolicyRef | None = None,
    data: str | None = None,
) -> Entry | None:
    """Write the entry after a chain's last one: the commit point.

    Returns:
        The entry; None where somebody else wrote that number first, and the chain has to be read again.
    """
    entry = Entry(
        sequence=len(chain.entries) + 1,
        previous=chain.digests[-1] if chain.digests else FIRST_PREVIOUS,
        kind=kind,
        champion=chain.state.champion,
        to=to,
        files=files,
        evidence=evidence,
        policy=policy,
        data=data,
        who=getpass.getuser(),
        why=why,
        time=datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        nonce=secrets.token_hex(16),
    )
    return entry if store.put_if_absent(name_entry(entry.sequence), entry.to_bytes()) else None


def put_evidence(store: ObjectStore, pages: dict[str, bytes]) -> str:
    """Keep a decision's files under the hash of `decision.json`, which lists the hashes of the others; return it."""
    digest = hashlib.sha256(pages[DECISION_NAME]).hexdigest()
    for name, content in pages.items():
        store.put_if_absent(f"{EVIDENCE_PREFIX}{digest}/{name}", content)
    return digest


def list_pages(store: ObjectStore, digest: str) -> dict[str, str]:
    """Return name -> SHA-256 of a decision's files, as its unedited `decision.json` says; else of that file alone."""
    own = {DECISION_NAME: digest}
    content = store.get(f"{EVIDENCE_PREFIX}{digest}/{DECISION_NAME}")
    if content is None or hashlib.sha256(content).hexdigest() != digest:
        return own
    return {**json.loads(content).get("files", {}), **own}


def read_pages(store: ObjectStore, digest: str) -> tuple[dict[str, bytes], list[str]]:
    """Return the files of a decision as they were written, and a line for each that is not."""
    pages, faults = {}, []
    for name, expected in list_pages(store, digest).items():
        content = store.get(f"{EVIDENCE_PREFIX}{digest}/{name}")
        if content is None or hashlib.sha256(content).hexdigest() != expected:
            faults.append(f"{name} {'is gone' if content is None else 'was edited'}")
        else:
            pages[name] = content
    return pages, faults
