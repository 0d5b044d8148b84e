from pathlib import Path

import pytest

from pipeline import ROOT, read_pipeline
from tumor_cascade.content import PACKAGE_DIR, find_code
from tumor_cascade.params import STAGES

CODE = "src/tumor_cascade/"


def list_deps(stage: str) -> list[str]:
    return next(one.deps for one in read_pipeline() if one.name == stage)


def list_code(stage: str) -> set[str]:
    """Return the files a stage's result comes from."""
    return {CODE + path.relative_to(PACKAGE_DIR).as_posix() for path in find_code(f"tumor_cascade.stages.{stage}")}


def is_covered(path: str, deps: list[str]) -> bool:
    return any(path == dep or path.startswith(f"{dep}/") for dep in deps)


@pytest.mark.parametrize("stage", STAGES)
def test_deps__cover_all_code_that_the_stage_imports(stage: str) -> None:
    missing = sorted(path for path in list_code(stage) if not is_covered(path, list_deps(stage)))
    assert not missing, f"dvc.yaml, deps of {stage}: add\n" + "\n".join(f"      - {path}" for path in missing)


@pytest.mark.parametrize("stage", STAGES)
def test_deps__name_no_code_that_the_stage_does_without(stage: str) -> None:
    code = list_code(stage)
    needless = [
        dep for dep in list_deps(stage) if dep.startswith(CODE) and not any(is_covered(path, [dep]) for path in code)
    ]
    assert not needless, f"dvc.yaml, deps of {stage}: an edit would rerun it for nothing; remove {', '.join(needless)}"


@pytest.mark.parametrize("stage", STAGES)
def test_deps__exist_or_are_made_by_another_stage(stage: str) -> None:
    made = [out for one in read_pipeline() for out in one.outs]
    for dep in list_deps(stage):
        is_made = is_covered(dep, made) or any(out.startswith(f"{dep}/") for out in made)
        assert dep == "data/raw" or is_made or Path(ROOT, dep).exists(), f"{stage}: nothing makes {dep}"


@pytest.mark.parametrize("stage", STAGES)
def test_deps__hold_the_lock_file(stage: str) -> None:
    assert "requirements.lock" in list_deps(stage)


def test_deps__bad_data_stop_before_the_split() -> None:
    assert any(dep.startswith("artifacts/validate_data/") for dep in list_deps("split_data"))


def test_dvcignore__leaves_out_byte_code_and_interrupted_writes() -> None:
    patterns = (ROOT / ".dvcignore").read_text(encoding="utf-8").split()
    assert {"__pycache__/", ".*.tmp", ".*.old"} <= set(patterns)
