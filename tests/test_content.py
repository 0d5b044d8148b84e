import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tumor_cascade import content
from tumor_cascade.content import (
    GLUE,
    PACKAGE_DIR,
    describe_content,
    find_code,
    find_imports,
    find_lock,
    find_module,
    hash_code,
    hash_content,
    hash_source,
    read_equivalents,
)
from tumor_cascade.params import STAGES
from tumor_cascade.storage import canonical_json, hash_file, hash_path

PARAMS = {"train_segmenter": {"widths": [4, 8], "seed": 1}, "fold": 0}


def list_code(stage: str) -> list[str]:
    return [path.relative_to(PACKAGE_DIR).as_posix() for path in find_code(f"tumor_cascade.stages.{stage}")]


def test_find_code__follows_imports_through_modules() -> None:
    segmenter, classifier = list_code("train_segmenter"), list_code("train_classifier")
    shared = {"training/engine.py", "training/sampling.py", "data/augmentation.py", "data/volumes.py", "data/split.py"}
    shared |= {"models/encoders.py", "training/initialization.py"}
    assert {"stages/train_segmenter.py", "models/resunet.py", "training/losses.py"} | shared <= set(segmenter)
    assert {"stages/train_classifier.py", "models/classifier.py"} | shared <= set(classifier)
    # What the one needs is no part of the other: changing a segmenter leaves the classifier as it is.
    assert not {"models/classifier.py", "training/classification.py"} & set(segmenter)
    assert not {"models/resunet.py", "training/losses.py", "training/segmentation.py"} & set(classifier)


@pytest.mark.parametrize("stage", STAGES)
def test_find_code__holds_the_stage_and_no_glue(stage: str) -> None:
    code = list_code(stage)
    assert f"stages/{stage}.py" in code
    assert code == sorted(set(code))
    assert not set(code) & set(GLUE)
    assert not [name for name in code if name.endswith("__init__.py")]
    others = {f"stages/{other}.py" for other in STAGES if other != stage}
    assert not set(code) & others


def test_find_code__holds_the_template_of_a_module() -> None:
    template = PACKAGE_DIR / "evaluation" / "report.html.j2"
    assert template in find_code("tumor_cascade.stages.evaluate_cascade")
    assert template not in find_code("tumor_cascade.stages.assemble_cascade")
    for path in PACKAGE_DIR.rglob("*.j2"):
        assert path.with_name(f"{path.name.split('.')[0]}.py").exists(), f"{path.name} is not named after its module"


def test_hash_code__of_a_stage_or_of_a_module() -> None:
    assert hash_code("split_data") == hash_code("tumor_cascade.stages.split_data")
    assert hash_code("tumor_cascade.data.canary") != hash_code("split_data")


@pytest.mark.parametrize("declared", read_equivalents(), ids=lambda one: one["file"])
def test_equivalents__are_of_todays_files_and_name_a_test(declared: dict[str, str]) -> None:
    assert set(declared) == {"file", "sha256", "earlier_sha256", "why", "proof"}
    assert hash_file(PACKAGE_DIR / declared["file"]) == declared["sha256"], "edited since: declare anew, or delete this"
    assert hash_source(PACKAGE_DIR / declared["file"]) == declared["earlier_sha256"] != declared["sha256"]
    path, _, test = declared["proof"].partition("::")
    assert f"def {test}(" in (Path(__file__).parents[1] / path).read_text(encoding="utf-8")


def test_hash_source__only_the_declared_bytes_are_equivalent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "PACKAGE_DIR", tmp_path)
    source = tmp_path / "module.py"
    source.write_text("x = 1 + 1\n")
    earlier = "e" * 64
    declared = {"file": "module.py", "sha256": hash_file(source), "earlier_sha256": earlier}
    monkeypatch.setattr(content, "read_equivalents", lambda: (declared,))
    assert hash_source(source) == earlier
    (tmp_path / "other.py").write_bytes(source.read_bytes())
    assert hash_source(tmp_path / "other.py") == declared["sha256"]
    source.write_text("x = 3\n")
    assert hash_source(source) == hash_file(source) != earlier


def test_find_code__assembly_does_not_depend_on_training() -> None:
    assert not [name for name in list_code("assemble_cascade") if name.startswith("training/")]


@pytest.mark.parametrize("name", GLUE)
def test_glue__names_files_that_exist(name: str) -> None:
    assert (PACKAGE_DIR / name).is_file()


def test_find_imports__in_every_form(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import json, tumor_cascade.errors\n"
        "from tumor_cascade.data.volumes import Volume\n"
        "from tumor_cascade.models import cascade, nothing\n"
        "from numpy import array\n"
        "def later():\n    from tumor_cascade import storage\n"
    )
    expected = {"errors", "data.volumes", "models", "models.cascade", "storage"}
    assert find_imports(path) == {"tumor_cascade", *(f"tumor_cascade.{name}" for name in expected)}


def test_find_module__file_package_or_nothing() -> None:
    assert find_module("tumor_cascade.errors") == PACKAGE_DIR / "errors.py"
    assert find_module("tumor_cascade.data") == PACKAGE_DIR / "data" / "__init__.py"
    assert find_module("tumor_cascade.nothing") is None
    assert find_module("json") is None


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "splits.parquet").write_text("who")
    (tmp_path / "manifest.parquet").write_text("what")
    return {"manifest": tmp_path / "manifest.parquet", "splits": tmp_path / "splits"}


def test_describe_content__says_what_went_in(inputs: dict[str, Path]) -> None:
    content = describe_content("train_segmenter", PARAMS, inputs)
    assert set(content) == {"stage", "params", "inputs", "code", "lock", "content_id"}
    assert content["inputs"] == {noun: hash_path(path) for noun, path in inputs.items()}
    assert content["lock"] == hash_file(find_lock())
    assert len(content["content_id"]) == 64
    assert str(inputs["manifest"].parent) not in json.dumps(content)


def test_hash_content__is_the_id_of_what_it_says_and_of_nothing_else(inputs: dict[str, Path]) -> None:
    content = describe_content("train_segmenter", PARAMS, inputs)
    assert hash_content({**content, "protocol": "patient_level"}) == content["content_id"]
    assert hash_content({**content, "stage": "train_classifier"}) != content["content_id"]
    assert len(hash_content({})) == 64


def test_describe_content__is_the_same_elsewhere(inputs: dict[str, Path], tmp_path: Path) -> None:
    elsewhere = tmp_path / "some" / "where"
    shutil.copytree(inputs["splits"], elsewhere / "dealt")
    shutil.copy(inputs["manifest"], elsewhere / "table")
    moved = {"splits": elsewhere / "dealt", "manifest": elsewhere / "table"}
    first, second = (describe_content("train_segmenter", PARAMS, one) for one in (inputs, moved))
    assert canonical_json(first) == canonical_json(second)


@pytest.mark.parametrize(
    "changed",
    [
        {"train_segmenter": {"widths": [4, 8], "seed": 2}, "fold": 0},
        {"train_segmenter": {"widths": [8, 4], "seed": 1}, "fold": 0},
        {"train_segmenter": {"widths": [4, 8], "seed": 1}, "fold": 1},
        {"train_segmenter": {"widths": [4, 8], "seed": 1.0}, "fold": 0},
    ],
)
def test_content_id__changes_with_params(inputs: dict[str, Path], changed: dict[str, object]) -> None:
    before, after = (describe_content("train_segmenter", one, inputs)["content_id"] for one in (PARAMS, changed))
    assert before != after


def test_content_id__changes_with_stage_and_inputs(inputs: dict[str, Path]) -> None:
    ids = {describe_content(stage, PARAMS, inputs)["content_id"] for stage in ("train_segmenter", "train_classifier")}
    ids.add(describe_content("train_segmenter", PARAMS, {**inputs, "splits": inputs["manifest"]})["content_id"])
    (inputs["splits"] / "splits.parquet").write_text("others")
    ids.add(describe_content("train_segmenter", PARAMS, inputs)["content_id"])
    assert len(ids) == 4


def compute_in(root: Path, folder: Path) -> str:
    """Return the content_id that a copy of the project computes, in a process that knows only the copy."""
    code = (
        "from pathlib import Path\nfrom tumor_cascade.content import describe_content, PACKAGE_DIR\n"
        f"assert PACKAGE_DIR == Path({str(root / 'src' / 'tumor_cascade')!r}), PACKAGE_DIR\n"
        "print(describe_content('train_segmenter', {'seed': 1}, {'manifest': Path('manifest')})['content_id'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout.strip()


def test_content_id__changes_with_code_that_the_stage_needs(tmp_path: Path) -> None:
    (tmp_path / "manifest").write_text("what")
    roots = [tmp_path / "one" / "checkout", tmp_path / "two"]
    for root in roots:
        shutil.copytree(PACKAGE_DIR, root / "src" / "tumor_cascade", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(find_lock(), root / "requirements.lock")
    before, elsewhere = (compute_in(root, tmp_path) for root in roots)
    assert before == elsewhere

    def is_changed_by(name: str) -> bool:
        path = roots[0] / name
        original = path.read_bytes()
        path.write_bytes(original + b"\n# a remark\n")
        after = compute_in(roots[0], tmp_path)
        path.write_bytes(original)
        return after != before

    package = "src/tumor_cascade"
    assert is_changed_by(f"{package}/training/losses.py")
    assert is_changed_by(f"{package}/data/preprocessing.py")
    assert is_changed_by("requirements.lock")
    assert not is_changed_by(f"{package}/models/cascade.py")  # no part of a training
    for glue in ("cli.py", "storage.py", "training/__init__.py"):
        assert not is_changed_by(f"{package}/{glue}")


def test_find_lock__beside_an_installed_package(tmp_path: Path) -> None:
    # In an image there is no checkout around the package.
    package = tmp_path / "site-packages" / "tumor_cascade"
    shutil.copytree(PACKAGE_DIR, package, ignore=shutil.ignore_patterns("__pycache__"))
    code = "from tumor_cascade.content import find_lock; print(find_lock())"
    run = [sys.executable, "-c", code]
    env = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    missing = subprocess.run(run, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert missing.returncode == 1 and "requirements.lock stands in neither of" in missing.stderr
    shutil.copy(find_lock(), package)
    found = subprocess.run(run, env=env, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(package / "requirements.lock")
