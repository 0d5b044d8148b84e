"""What vouches for the code and the policies: git in a checkout, the wheel's record in an image."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from images import COMMIT, install_wheel, run_image
from pipeline import ROOT
from tumor_cascade.registry.checkout import ask_git, describe_checkout, is_committed

PROBE = """
import json
from tumor_cascade.registry.checkout import describe_checkout, is_committed
from tumor_cascade.registry.policy import choose_policy
checkout, policy = describe_checkout(), choose_policy("phantom")
print(json.dumps([checkout.commit, checkout.changed, str(policy), is_committed(policy, checkout.commit)]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_wheel(ROOT, tmp_path_factory.mktemp("image"))


@pytest.fixture
def image(installed: Path, tmp_path: Path) -> Path:
    """A copy that a test may edit."""
    shutil.copytree(installed, tmp_path / "site")
    return tmp_path / "site"


def ask(image: Path, **facts: str) -> list[Any]:
    """Return commit, changed files, policy and whether it is committed, as the package in an image says."""
    answers: list[Any] = json.loads(run_image(image, image, "-c", PROBE, **facts))
    return answers


def test_describe_checkout__of_this_repository() -> None:
    assert len(describe_checkout().commit or "") == 40


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A committed file."""
    path = tmp_path / "policy.yaml"
    path.write_text("name: paper\n")
    for command in ("init --quiet", "add --all", "-c user.name=t -c user.email=t@example.org commit --quiet -m policy"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    return path


def test_is_committed__edited_file(policy: Path) -> None:
    commit = ask_git(policy.parent, "rev-parse", "HEAD")
    assert is_committed(policy, commit)
    policy.write_text("name: other\n")
    assert not is_committed(policy, commit)
    policy.with_name("new.yaml").touch()
    assert ask_git(policy.parent, "add", "new.yaml") == ""
    assert not is_committed(policy.with_name("new.yaml"), commit)
    assert not is_committed(policy.with_name("nowhere.yaml"), commit)


def test_is_committed__a_repository_that_is_not_the_code_s(policy: Path) -> None:
    assert is_committed(ROOT / "LICENSE", describe_checkout().commit)
    assert not is_committed(policy, describe_checkout().commit)
    assert not is_committed(policy, None)


def test_image__a_wheel_holds_all_that_promotion_needs(installed: Path) -> None:
    policy = installed / "tumor_cascade/policies/phantom.yaml"
    assert ask(installed, COMMIT=COMMIT) == [COMMIT, [], str(policy), True]
    assert policy.read_bytes() == (ROOT / "policies/phantom.yaml").read_bytes()


def test_image__without_a_commit_nothing_is_known(installed: Path) -> None:
    assert ask(installed)[0] is None
    assert ask(installed, COMMIT="main")[0] is None


def test_image__built_from_uncommitted_files(installed: Path) -> None:
    assert ask(installed, COMMIT=COMMIT, DIRTY="true")[1] == ["what the image was built from"]
    assert ask(installed, COMMIT=COMMIT, DIRTY="false")[1] == []


def test_image__a_policy_of_some_repository_is_vouched_for_by_nothing(installed: Path, policy: Path) -> None:
    probe = PROBE.replace('choose_policy("phantom")', f"__import__('pathlib').Path({str(policy)!r})")
    assert json.loads(run_image(installed, installed, "-c", probe, COMMIT=COMMIT))[3] is False


def test_image__what_was_edited_is_named(image: Path) -> None:
    with (image / "tumor_cascade/policies/phantom.yaml").open("a") as file:
        file.write("# looser\n")
    (image / "tumor_cascade/registry/extra.py").touch()
    (image / "tumor_cascade/registry/judge.py").unlink()
    _, changed, _, is_policy_committed = ask(image, COMMIT=COMMIT)
    assert changed == [
        f"tumor_cascade/{name}" for name in ("policies/phantom.yaml", "registry/extra.py", "registry/judge.py")
    ]
    assert not is_policy_committed


def test_image__a_copy_of_the_source_is_vouched_for_by_nothing(image: Path) -> None:
    for folder in image.glob("*.dist-info"):
        shutil.rmtree(folder)
    assert ask(image, COMMIT=COMMIT)[1] == ["tumor_cascade, not installed from a wheel,"]
