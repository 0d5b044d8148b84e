"""The protocol of promotion on real MLflow: a SQLite database, artifacts and ledger in a folder."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from candidates import count_entries, judge_as, read_name, write_candidate
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.registry.aliases import ALIASES
from tumor_cascade.registry.entries import PolicyRef, State
from tumor_cascade.registry.ledger import name_entry
from tumor_cascade.registry.promotion import Judge, Judgement, Outcome, Stored, promote
from tumor_cascade.registry.shared import Shared, open_shared
from tumor_cascade.registry.upkeep import audit, list_registered, recover, roll_back
from tumor_cascade.registry.verdicts import Verdict
from tumor_cascade.registry.versions import CLASSIFIER, PRODUCT, SEGMENTER

POLICY = PolicyRef(name="paper", sha256="4" * 64)
Promoter = Callable[[str, Verdict], Outcome]


@pytest.fixture
def shared(workplace: Path) -> Shared:
    return open_shared()


@pytest.fixture
def offer(shared: Shared, workplace: Path) -> Promoter:
    """Offer a candidate of some name to a judge of some mind."""

    def run(name: str, verdict: Verdict) -> Outcome:
        cascade = workplace / "candidates" / name
        if not cascade.exists():
            write_candidate(cascade, name)
        return promote(shared.registry, shared.store, cascade, POLICY, lambda *_: judge_as(verdict))

    return run


def read_aliases(shared: Shared) -> dict[str, int | None]:
    aliases, _ = shared.registry.read_model()
    return {name: aliases.get(name) for name in ALIASES}


def test_promote__first_second_refused_and_rollback(shared: Shared, offer: Promoter) -> None:
    first = offer("a", "promote")
    assert (first.entry.sequence, first.entry.champion, first.entry.to.version, first.is_new) == (1, None, 1, True)
    assert read_aliases(shared) == {"champion": 1, "challenger": None, "previous": None}
    offer("b", "promote")
    assert read_aliases(shared) == {"champion": 2, "challenger": None, "previous": 1}
    refused = offer("c", "refuse")
    assert not refused.is_promoted
    assert read_aliases(shared) == {"champion": 2, "challenger": 3, "previous": 1}
    entry = roll_back(shared.registry, shared.store, why="b is slow")
    assert (entry.kind, entry.sequence, entry.to.version, entry.why) == ("rollback", 4, 1, "b is slow")
    assert read_aliases(shared) == {"champion": 1, "challenger": None, "previous": None}
    assert audit(shared.registry, shared.store) == []
    listed = list_registered(shared.registry, shared.read_chain())
    assert [(one.ref.version, one.aliases, one.entry.kind if one.entry else None) for one in listed] == [
        (1, ("champion",), "rollback"),
        (2, (), "promote"),
        (3, (), "refuse"),
    ]


def test_promote__a_version_holds_all_that_it_needs(shared: Shared, offer: Promoter, workplace: Path) -> None:
    entry = offer("a", "promote").entry
    folder = shared.registry.download(PRODUCT, 1, workplace / "copy")
    manifest = json.loads((folder / "artifacts/version.json").read_text())
    assert manifest["content_id"] == entry.to.content_id
    assert manifest["policy"] == POLICY.model_dump()
    assert {name: (one["model"], one["version"]) for name, one in manifest["components"].items()} == {
        "classifiers/fold-0": (CLASSIFIER, 1),
        "segmenters/fold-0": (SEGMENTER, 1),
    }
    assert manifest["params"]["classifiers/fold-0"] == {"train_classifier": {"name": "a"}}
    assert {
        "artifacts/cascade/cascade.json",
        "artifacts/cascade/classifiers/fold-0/weights.safetensors",
        "artifacts/golden/golden.safetensors",
    } <= set(manifest["files"])
    assert set(manifest["files"].items()) <= set(entry.files.items())
    assert str(workplace) not in (folder / "MLmodel").read_text()


def test_promote__a_version_names_the_run_that_shows_its_content(
    shared: Shared, offer: Promoter, workplace: Path
) -> None:
    write_candidate(workplace / "candidates/a", "a")
    content_id = json.loads((workplace / "candidates/a/content.json").read_text())["content_id"]
    run = shared.registry.client.create_run(shared.registry.experiment_id, tags={"content_id": content_id})
    offer("a", "promote")
    assert shared.registry.client.get_model_version(PRODUCT, "1").run_id == run.info.run_id
    assert shared.registry.client.get_model_version(CLASSIFIER, "1").run_id in (None, "")


def test_promote__the_same_question_twice_is_one_entry_and_one_version(shared: Shared, offer: Promoter) -> None:
    for name, verdict in (("a", "promote"), ("b", "abstain")):
        first, second = offer(name, verdict), offer(name, verdict)
        assert (first.is_new, second.is_new) == (True, False)
        assert second.entry == first.entry
        assert second.pages == first.pages
    assert [one.ref.version for one in shared.registry.list_versions(PRODUCT)] == [1, 2]
    assert len(shared.read_chain().entries) == 2


def test_promote__the_model_card_is_the_description(shared: Shared, offer: Promoter) -> None:
    offer("a", "promote")
    assert shared.registry.list_versions(PRODUCT)[0].description == "# A card\n"


def test_promote__a_judgement_without_scores_leaves_the_card_of_the_one_before(
    shared: Shared, offer: Promoter, workplace: Path
) -> None:
    for name in ("a", "b"):
        offer(name, "promote")
    roll_back(shared.registry, shared.store, why="b is slow")
    unscored = replace(judge_as("refuse", card="# Not scored\n"), data=None)
    promote(shared.registry, shared.store, workplace / "candidates/b", POLICY, lambda *_: unscored)
    assert shared.registry.list_versions(PRODUCT)[1].description == "# A card\n"


def test_promote__other_bytes_of_a_known_content_are_refused(shared: Shared, offer: Promoter, workplace: Path) -> None:
    offer("a", "promote")
    path = workplace / "candidates/a/cascade.json"
    path.write_text(path.read_text().replace('"bias": 0.0', '"bias": 0.5'))
    with pytest.raises(DataError, match=r"stands as version 1 with other bytes(.|\n)*cascade.json was edited"):
        offer("a", "promote")


def test_promote__overtaken_by_another_champion_the_judge_is_asked_again(shared: Shared, workplace: Path) -> None:
    met: list[str | None] = []

    def judge(candidate: Stored, champion: Stored | None, state: State) -> Judgement:
        met.append(None if champion is None else read_name(champion.folder / "artifacts/cascade"))
        if len(met) == 1:  # while this one judges, another one is promoted
            other: Judge = lambda *_: judge_as("promote")  # noqa: E731
            promote(shared.registry, shared.store, write_candidate(workplace / "b", "b"), POLICY, other)
        return judge_as("promote")

    outcome = promote(shared.registry, shared.store, write_candidate(workplace / "a", "a"), POLICY, judge)
    assert met == [None, "b"]
    assert outcome.entry.sequence == 2
    assert outcome.entry.champion is not None


def test_roll_back__walks_back_one_champion_at_a_time_and_can_bring_one_back(shared: Shared, offer: Promoter) -> None:
    for name in ("a", "b", "c"):
        offer(name, "promote")
    assert [roll_back(shared.registry, shared.store, why="again").to.version for _ in range(2)] == [2, 1]
    with pytest.raises(ParamsError, match="no earlier champion to roll back to"):
        roll_back(shared.registry, shared.store, why="again")
    with pytest.raises(ParamsError, match="version 9 is no former champion; must be one of: 2, 3"):
        roll_back(shared.registry, shared.store, why="again", version=9)
    state = shared.read_chain().state
    assert sorted(state.withdrawn.values()) == [4, 5]
    roll_back(shared.registry, shared.store, why="it was right", version=3)
    assert read_aliases(shared)["champion"] == 3
    assert len(shared.read_chain().state.withdrawn) == 2  # 2, and 1, which 3 has replaced


def test_roll_back__to_an_edited_version_is_refused(shared: Shared, offer: Promoter, workplace: Path) -> None:
    offer("a", "promote")
    offer("b", "promote")
    edit(workplace, "a")
    with pytest.raises(
        DataError, match=r"version 1 is not what the ledger knows:\n- artifacts/cascade/cascade.json was"
    ):
        roll_back(shared.registry, shared.store, why="b is slow")
    assert count_entries(workplace / "promotions") == 2


def edit(workplace: Path, name: str) -> None:
    """Edit the cascade of a name where the registry keeps it."""
    paths = workplace.glob("mlartifacts/**/artifacts/cascade/cascade.json")
    path = next(path for path in paths if read_name(path.parent) == name)
    path.write_text(path.read_text() + " ")


def test_audit__names_what_was_done_by_hand(shared: Shared, offer: Promoter, workplace: Path) -> None:
    offer("a", "promote")
    offer("b", "promote")
    client = shared.registry.client
    client.set_registered_model_alias(PRODUCT, "champion", "1")
    client.set_registered_model_alias(PRODUCT, "best", "2")
    client.set_registered_model_alias(CLASSIFIER, "champion", "1")
    client.set_model_version_tag(PRODUCT, "1", "verdict", "excellent")
    edit(workplace, "a")
    decision = next((workplace / "promotions/evidence").glob("*/decision.json"))
    decision.write_text("{}")
    findings = "\n".join(audit(shared.registry, shared.store))
    for expected in (
        "alias best is none of this project's: somebody set it by hand",
        "alias champion points to version 1; after ledger entry 2 it is 2: moved by hand",
        "tumor-cascade-classifier carries the alias champion; only tumor-cascade may",
        "tumor-cascade version 1: tag verdict is excellent, not promoted",
        "tumor-cascade version 1: artifacts/cascade/cascade.json was edited",
        "the decision of ledger entry 1: decision.json was edited",
        "the decision of ledger entry 2: decision.json was edited",
    ):
        assert expected in findings
    assert len(findings.splitlines()) == 7


def test_recover__puts_aliases_and_tags_back(shared: Shared, offer: Promoter) -> None:
    offer("a", "promote")
    offer("b", "promote")
    shared.registry.set_alias("champion", 1)
    shared.registry.set_alias("previous", None)
    shared.registry.set_version_tag(1, "verdict", "excellent")
    assert recover(shared.registry, shared.store) == [
        "version 1: verdict excellent -> promoted",
        "alias champion: 1 -> 2",
        "alias previous: none -> 1",
    ]
    assert recover(shared.registry, shared.store) == []
    assert audit(shared.registry, shared.store) == []


def test_decision__an_edited_page_is_named_and_never_shown(shared: Shared, offer: Promoter, workplace: Path) -> None:
    offer("a", "promote")
    card = next((workplace / "promotions/evidence").glob("*/model_card.md"))
    card.write_text("# The very best\n")
    (card.parent / "more.html").write_text("<p>")  # listed nowhere, so it is nobody's
    assert audit(shared.registry, shared.store) == ["the decision of ledger entry 1: model_card.md was edited"]
    assert recover(shared.registry, shared.store) == []
    assert "best" not in shared.registry.list_versions(PRODUCT)[0].description
    with pytest.raises(DataError, match=r"version 1 is not what the ledger knows:\n- model_card.md was edited"):
        offer("a", "promote")


def test_promote__a_champion_brought_back_is_champion(shared: Shared, offer: Promoter) -> None:
    offer("a", "promote")
    offer("b", "promote")
    roll_back(shared.registry, shared.store, why="b is slow")
    assert not offer("b", "refuse").is_promoted
    roll_back(shared.registry, shared.store, why="it was the disk", version=2)
    again = offer("b", "promote")
    assert (again.is_promoted, again.is_new, again.entry.why) == (True, False, "it was the disk")
    assert json.loads(again.pages["decision.json"])["verdict"] == "promote"


def test_recover__leaves_versions_that_were_registered_by_hand(
    shared: Shared, offer: Promoter, workplace: Path
) -> None:
    offer("a", "promote")
    folder = shared.registry.download(PRODUCT, 1, workplace / "copy")
    for _ in range(2):
        logged = shared.registry.log_folder(PRODUCT, folder, {"content_id": "5" * 64})
        shared.registry.client.create_model_version(PRODUCT, f"models:/{logged}", model_id=logged)
    assert audit(shared.registry, shared.store) == [
        f"tumor-cascade version {number} was registered by hand: no content_id" for number in (2, 3)
    ]
    assert recover(shared.registry, shared.store) == []
    assert [one.ref.version for one in shared.registry.list_versions(PRODUCT)] == [1, 2, 3]


@pytest.mark.parametrize("head", ["abc", "", "-3 x", "0 ", "1 " + "A" * 64])
def test_audit__names_a_remembered_head_that_is_none(shared: Shared, offer: Promoter, head: str) -> None:
    offer("a", "promote")
    shared.registry.set_model_tag("ledger_head", head)
    message = "the registry's tag ledger_head is no number and hash of an entry; put it back, or delete it"
    check_refusal(shared, offer, message)
    shared.registry.client.delete_registered_model_tag(PRODUCT, "ledger_head")
    recover(shared.registry, shared.store)
    assert audit(shared.registry, shared.store) == []


def test_recover__deletes_the_second_version_of_a_content(shared: Shared, offer: Promoter, workplace: Path) -> None:
    content_id = offer("a", "promote").entry.to.content_id
    folder = shared.registry.download(PRODUCT, 1, workplace / "copy")
    logged = shared.registry.log_folder(PRODUCT, folder, {"content_id": content_id})
    source = f"models:/{logged}"
    shared.registry.client.create_model_version(PRODUCT, source, model_id=logged, tags={"content_id": content_id})
    assert audit(shared.registry, shared.store) == [
        f"tumor-cascade version 2 is a second one of content {content_id[:12]}"
    ]
    recover(shared.registry, shared.store)
    assert [one.ref.version for one in shared.registry.list_versions(PRODUCT)] == [1]


def test_ledger__an_edit_by_hand_stops_everything(shared: Shared, offer: Promoter, workplace: Path) -> None:
    offer("a", "promote")
    offer("b", "promote")
    path = workplace / "promotions" / name_entry(2)  # the last one, whose hash stands in no other
    before = path.read_text()
    path.write_text(before.replace("said to be promote", "the very best"))
    check_refusal(shared, offer, "ledger entry 2 was edited: the registry remembers another hash")
    path.unlink()
    check_refusal(shared, offer, "ledger entry 2 is gone: the registry remembers it")
    path.write_text(before)
    assert audit(shared.registry, shared.store) == []


def check_refusal(shared: Shared, offer: Promoter, message: str) -> None:
    assert message in audit(shared.registry, shared.store)
    with pytest.raises(DataError, match=message):
        recover(shared.registry, shared.store)
    with pytest.raises(DataError, match=message):
        offer("b", "promote")


def test_promote__another_ledger_than_the_registry_s_is_refused(
    shared: Shared, offer: Promoter, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer("a", "promote")
    monkeypatch.setenv("TUMOR_CASCADE_LEDGER", str(workplace / "elsewhere"))
    other = open_shared()
    with pytest.raises(
        ParamsError, match=r"the ledger of this registry is at .*promotions, not at .*elsewhere; set TUM"
    ):
        recover(other.registry, other.store)
