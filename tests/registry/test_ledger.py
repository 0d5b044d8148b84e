"""The chain of entries and what it amounts to, on a folder, without MLflow."""

import hashlib
import json
from pathlib import Path

import pytest

from tumor_cascade.errors import DataError
from tumor_cascade.object_store import FolderStore, ObjectStore
from tumor_cascade.registry.entries import Entry, Kind, State, VersionRef
from tumor_cascade.registry.ledger import (
    Chain,
    append_entry,
    name_entry,
    put_evidence,
    read_chain,
    read_pages,
    require_sound,
)

FILES = {"artifacts/cascade/cascade.json": "5" * 64}


def name_version(number: int) -> VersionRef:
    return VersionRef(version=number, content_id=f"{number:064x}")


def append(store: ObjectStore, kind: Kind, number: int) -> Entry:
    entry = append_entry(store, read_chain(store), kind, name_version(number), FILES, why="because")
    assert entry is not None
    return entry


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return FolderStore(tmp_path)


def list_versions(state: State) -> tuple[list[int], int | None, dict[int, int]]:
    withdrawn = {int(content_id, 16): sequence for content_id, sequence in state.withdrawn.items()}
    return [ref.version for ref in state.history], state.challenger and state.challenger.version, withdrawn


@pytest.mark.parametrize(
    ("entries", "history", "challenger", "withdrawn"),
    [
        ([], [], None, {}),
        ([("promote", 1), ("promote", 2), ("refuse", 3)], [1, 2], 3, {}),
        ([("refuse", 1), ("abstain", 2)], [], 2, {}),
        ([("refuse", 1), ("promote", 2)], [2], None, {}),
        ([("promote", 1), ("promote", 2), ("promote", 3), ("rollback", 2)], [1, 2], None, {3: 4}),
        ([("promote", 1), ("promote", 2), ("promote", 3), ("rollback", 1)], [1], None, {2: 4, 3: 4}),
        ([("promote", 1), ("promote", 2), ("rollback", 1), ("rollback", 2)], [2], None, {1: 4}),  # brought back
        ([("promote", 1), ("promote", 2), ("rollback", 1), ("promote", 3)], [1, 3], None, {2: 3}),
    ],
)
def test_state__is_what_the_entries_amount_to(
    store: ObjectStore,
    entries: list[tuple[Kind, int]],
    history: list[int],
    challenger: int | None,
    withdrawn: dict[int, int],
) -> None:
    for kind, number in entries:
        append(store, kind, number)
    chain = read_chain(store)
    assert chain.faults == ()
    assert list_versions(chain.state) == (history, challenger, withdrawn)


def test_append_entry__holds_the_hash_of_the_one_before_and_the_champion_then(store: ObjectStore) -> None:
    first, second = append(store, "promote", 1), append(store, "promote", 2)
    chain = read_chain(store)
    assert (first.previous, second.previous) == ("0" * 64, chain.digests[0])
    assert (first.champion, second.champion) == (None, name_version(1))
    values = json.loads((store.get(name_entry(2)) or b"").decode())
    assert values["from"] == {"version": 1, "content_id": f"{1:064x}"}
    assert set(values) == {
        *("sequence", "previous", "kind", "from", "to", "files", "evidence", "policy", "data"),
        *("who", "why", "time", "nonce"),
    }


def test_append_entry__whoever_comes_second_writes_nothing(store: ObjectStore) -> None:
    chain = read_chain(store)
    first = append_entry(store, chain, "promote", name_version(1), FILES, why="first")
    assert append_entry(store, chain, "promote", name_version(2), FILES, why="second") is None
    assert read_chain(store).entries == (first,)


def rewrite(store: FolderStore, number: int, **changes: object) -> None:
    path = store.folder / name_entry(number)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("number", "changes", "fault"),
    [
        (1, {"why": "better"}, "ledger entry 1 is not the one that entry 2 was written after; edited"),
        (2, {"sequence": 7}, "ledger entry 2 calls itself 7; it was moved or edited"),
        (3, {"from": None}, "ledger entry 3 starts from another champion than the entries before it leave; edited"),
        (3, {"kind": "champion"}, "ledger entry 3 cannot be read: Input should be 'promote', 'refuse', 'abstain'"),
        (3, {"kind": "rollback"}, "ledger entry 3 returns to version 3, which never was champion; edited"),
        (3, {"note": "x"}, "ledger entry 3 cannot be read: Extra inputs are not permitted"),
    ],
)
def test_read_chain__names_an_edit(store: FolderStore, number: int, changes: dict[str, object], fault: str) -> None:
    for version in (1, 2, 3):
        append(store, "promote", version)
    rewrite(store, number, **changes)
    chain = read_chain(store)
    assert any(line.startswith(fault) for line in chain.faults), chain.faults
    with pytest.raises(DataError, match=r"does not hold together, nothing was changed; restore the entries"):
        require_sound(chain, store)


def test_read_chain__names_gaps_and_strangers(store: FolderStore) -> None:
    for version in (1, 2, 3):
        append(store, "promote", version)
    (store.folder / name_entry(2)).unlink()
    (store.folder / "ledger" / "notes.txt").touch()
    faults = read_chain(store).faults
    assert faults[:2] == (
        "ledger/notes.txt is no ledger entry; somebody put it there",
        "ledger entries are missing: 2",
    )


def test_put_evidence__is_kept_under_the_hash_of_the_decision(store: ObjectStore) -> None:
    pages = {"decision.json": b"{}", "comparison.html": b"<p>"}
    digest = put_evidence(store, pages)
    assert digest == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"  # SHA-256 of {}
    assert read_pages(store, digest) == ({"decision.json": b"{}"}, [])  # what it does not list is nobody's


def test_read_pages__names_what_is_edited_or_gone(store: FolderStore) -> None:
    files = {name: hashlib.sha256(content).hexdigest() for name, content in (("a.md", b"a"), ("b.md", b"b"))}
    pages = {"a.md": b"a", "b.md": b"b", "decision.json": json.dumps({"files": files}).encode()}
    digest = put_evidence(store, pages)
    assert read_pages(store, digest) == (pages, [])
    folder = store.folder / "evidence" / digest
    (folder / "a.md").write_text("A")
    (folder / "b.md").unlink()
    assert read_pages(store, digest)[1] == ["a.md was edited", "b.md is gone"]
    (folder / "decision.json").write_text('{"files": {"../../x": "0"}}')
    assert read_pages(store, digest) == ({}, ["decision.json was edited"])


def test_chain__finds_the_last_word_on_a_version(store: ObjectStore) -> None:
    for kind, number in (("promote", 1), ("promote", 2), ("rollback", 1)):
        append(store, kind, number)  # type: ignore[arg-type]
    chain: Chain = read_chain(store)
    last = chain.find_last(name_version(1))
    assert last and last.sequence == 3
    assert chain.find_files(name_version(2)) == FILES
    assert (chain.find_last(name_version(9)), chain.find_files(name_version(9))) == (None, {})
