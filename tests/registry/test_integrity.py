"""Facts about packed cascades: one is whole, the others have one thing wrong each."""

import json
import pickle
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from candidates import hash_data, write_candidate, write_data, write_evaluation
from manifests import make_manifest
from tumor_cascade.data.manifest import write_manifest
from tumor_cascade.registry.checkout import Checkout
from tumor_cascade.registry.entries import State
from tumor_cascade.registry.integrity import inspect_cascade
from tumor_cascade.storage import CONTENT_NAME

NOT_EVALUATED = (
    "report is no evaluation of these bytes: they were edited since, or it is another cascade's; "
    "run evaluate_cascade, or name its --report"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"), num_patients=4)


@pytest.fixture(scope="module")
def policy_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    (folder / "policy.yaml").write_text("name: paper\n")
    for command in ("init --quiet", "add --all", "-c user.name=t -c user.email=t@example.org commit --quiet -m policy"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)
    return folder / "policy.yaml"


@pytest.fixture(scope="module")
def commit(policy_path: Path) -> str:
    """The commit that the code says it is of."""
    return subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=policy_path.parent, text=True).strip()


Inspect = Callable[..., dict[str, tuple[str, ...]]]


@pytest.fixture
def cascade(tmp_path: Path, data: Path) -> Path:
    cascade = write_candidate(tmp_path / "cascade", "a", hash_data(data))
    write_evaluation(tmp_path / "report", cascade)
    return cascade


@pytest.fixture
def inspect(cascade: Path, data: Path, policy_path: Path, commit: str) -> Inspect:
    """Return the faults by fact."""

    def run(
        checkout: Checkout = Checkout(commit, ()),  # noqa: B008 - frozen
        state: State = State(),  # noqa: B008 - frozen
        policy: Path = policy_path,
        manifest: Path = data / "manifest.parquet",
        splits: Path = data / "splits",
    ) -> dict[str, tuple[str, ...]]:
        facts = inspect_cascade(
            cascade,
            report=cascade.parent / "report",
            manifest=manifest,
            splits=splits,
            policy_path=policy,
            policy_name="paper",
            checkout=checkout,
            state=state,
        )
        return {fact.name: fact.faults for fact in facts}

    return run


def find_broken(faults: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {name: found for name, found in faults.items() if found}


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_inspect_cascade__a_whole_one_has_no_faults(inspect: Inspect) -> None:
    faults = inspect()
    assert list(faults) == [
        *("clean_commit", "complete_chain", "hashes_match", "no_pickle", "patient_level", "not_withdrawn", "same_kind"),
    ]
    assert find_broken(faults) == {}


def test_inspect_cascade__uncommitted_code_and_policy(inspect: Inspect, commit: str, tmp_path: Path) -> None:
    (tmp_path / "loose.yaml").touch()
    faults = inspect(Checkout(commit, ("src/a.py",)), policy=tmp_path / "loose.yaml")
    assert find_broken(faults) == {
        "clean_commit": ("src/a.py is not as committed", "policy loose.yaml is not in the code's commit as it stands")
    }
    assert inspect(Checkout(None, ()))["clean_commit"][0].startswith("no commit is known of the code")


def test_inspect_cascade__a_policy_of_another_repository(inspect: Inspect) -> None:
    faults = inspect(Checkout("c" * 40, ()))
    assert find_broken(faults) == {"clean_commit": ("policy policy.yaml is not in the code's commit as it stands",)}


def test_inspect_cascade__other_code(inspect: Inspect, cascade: Path) -> None:
    path = cascade / "classifiers/fold-0" / CONTENT_NAME
    edit_json(path, code="0" * 64, lock="0" * 64)
    faults = find_broken(inspect())
    assert faults["clean_commit"] == (
        "fold-0 was made by other code of train_classifier than this commit's",
        "fold-0 was made with another requirements.lock",
    )
    assert faults["hashes_match"] == (f"fold-0/{CONTENT_NAME} is not what its content_id was taken over",)


def test_inspect_cascade__other_data(inspect: Inspect, tmp_path: Path) -> None:
    write_manifest(make_manifest(num_patients=6), tmp_path / "manifest.parquet")
    faults = find_broken(inspect(manifest=tmp_path / "manifest.parquet"))
    assert faults["complete_chain"] == (
        "cascade was made from another manifest",
        "fold-0 was made from another manifest",
        "fold-0 was made from another manifest",
    )


def test_inspect_cascade__edited_weights(inspect: Inspect, cascade: Path) -> None:
    path = cascade / "segmenters/fold-0/weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert find_broken(inspect()) == {
        "hashes_match": ("segmenters/fold-0 has other bytes than the cascade was made from", NOT_EVALUATED)
    }


def test_inspect_cascade__a_threshold_tuned_by_hand(inspect: Inspect, cascade: Path) -> None:
    settings = json.loads((cascade / "cascade.json").read_text())["settings"]
    edit_json(cascade / "cascade.json", settings=settings | {"gate_threshold": 0.3})
    assert find_broken(inspect()) == {"hashes_match": (NOT_EVALUATED,)}


@pytest.mark.parametrize("is_edited", [True, False])
def test_inspect_cascade__without_a_true_evaluation(inspect: Inspect, cascade: Path, is_edited: bool) -> None:
    path = cascade.parent / "report" / CONTENT_NAME
    if is_edited:
        edit_json(path, code="0" * 64)
    else:
        path.unlink()
    assert find_broken(inspect()) == {"hashes_match": (NOT_EVALUATED,)}


def test_inspect_cascade__an_extra_network(inspect: Inspect, cascade: Path) -> None:
    (cascade / "segmenters/fold-0").rename(cascade / "segmenters/fold-1")
    faults = find_broken(inspect())
    assert set(faults["complete_chain"]) == {
        "the cascade names segmenters/fold-0 and does not hold it",
        "nothing names segmenters/fold-1",
    }


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("weights.pkl", pickle.dumps({}), "weights.pkl is no .json or .safetensors file"),
        ("notes.json", pickle.dumps({}), "notes.json is not what its suffix says"),
        ("more.safetensors", pickle.dumps({"a": 1}), "more.safetensors is not what its suffix says"),
        ("huge.safetensors", b"\xff" * 16, "huge.safetensors is not what its suffix says"),
    ],
)
def test_inspect_cascade__a_pickle_whatever_its_name(
    inspect: Inspect, cascade: Path, name: str, content: bytes, fault: str
) -> None:
    (cascade / name).write_bytes(content)
    assert find_broken(inspect()) == {"no_pickle": (fault,), "hashes_match": (NOT_EVALUATED,)}


def test_inspect_cascade__leaky_split_and_unknown_patients(tmp_path: Path, inspect: Inspect, data: Path) -> None:
    # Whatever the cascade says of itself: these are the data.
    shutil.copytree(data / "splits", tmp_path / "splits")
    edit_json(tmp_path / "splits/splits.json", protocol="slice_level", is_leaky=True)
    write_manifest(make_manifest(num_patients=4).assign(has_patient_ids=False), tmp_path / "manifest.parquet")
    faults = inspect(manifest=tmp_path / "manifest.parquet", splits=tmp_path / "splits")
    assert faults["patient_level"] == (
        "split under slice_level: slices of one patient on both sides",
        "the data have no patient ids, so nobody can say who is who",
    )


def test_inspect_cascade__rolled_back_or_of_another_kind(inspect: Inspect, cascade: Path) -> None:
    content_id = json.loads((cascade / CONTENT_NAME).read_text())["content_id"]
    faults = find_broken(inspect(state=State(withdrawn={content_id: 7}, policy_name="lgg")))
    assert faults["not_withdrawn"][0].startswith(
        "ledger entry 7 rolled it back; `tumor-cascade registry rollback --to`"
    )
    assert faults["same_kind"][0].startswith("champions of this registry are made under policy lgg, for other data")


def test_inspect_cascade__only_a_few_of_many_faults_are_shown(inspect: Inspect, commit: str) -> None:
    names = tuple(f"src/{number}.py" for number in range(9))
    assert inspect(Checkout(commit, names))["clean_commit"][-1] == "and 4 more"
