from dataclasses import asdict
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from outputs import read_content_id, write_outputs
from tumor_cascade.cli import main
from tumor_cascade.params import read_yaml
from tumor_cascade.registry.client import connect, open_experiment
from tumor_cascade.registry.executions import Execution
from tumor_cascade.registry.outputs import read_outputs
from tumor_cascade.registry.recipe import Recipe
from tumor_cascade.storage import write_json

CASCADE = "artifacts/assemble_cascade/cascade"
COMMIT = 40 * "a"


@pytest.fixture
def content_id(workplace: Path) -> str:
    """A cascade and the record of who made it."""
    artifacts = write_outputs(workplace)
    content_id = read_content_id(artifacts, "assemble_cascade")
    recipe = Recipe.of_contents(output.content for output in read_outputs(artifacts))
    assert recipe is not None
    facts = {"stage": "assemble_cascade", "fold": None, "started": 0.0, "pid": 1, "paths": {}, "host": "desk"}
    made_by = Execution(**facts, pipeline=asdict(recipe), commit=COMMIT, is_dirty=True, content_id=content_id)
    write_json(Path("runs/assemble_cascade") / f"{content_id}.json", asdict(made_by))
    return content_id


def test_reproduce__commands(content_id: str) -> None:
    done = CliRunner().invoke(main, ["reproduce", CASCADE])
    folder = f"build/reproduce/{content_id[:8]}"
    assert done.stdout.splitlines() == [
        f"git worktree add --detach {folder} {COMMIT}",
        f"tumor-cascade reproduce {CASCADE} --params > {folder}/params.yaml",
        f"mkdir -p {folder}/data/raw",
        f"cd {folder}",
        'export PYTHONPATH="$PWD/src"',
        "dvc repro evaluate_cascade",
        f"grep {content_id} artifacts/assemble_cascade/cascade/content.json",
    ]
    assert f"uncommitted changes beside commit {COMMIT}" in done.stderr


def test_reproduce__params_are_those_of_the_run(content_id: str) -> None:
    done = CliRunner().invoke(main, ["reproduce", CASCADE, "--params"])
    assert YAML(typ="safe", pure=True).load(done.stdout) == read_yaml(Path("params.yaml"))


def test_reproduce__nobody_knows_the_commit(content_id: str) -> None:
    (Path("runs/assemble_cascade") / f"{content_id}.json").unlink()
    done = CliRunner().invoke(main, ["reproduce", CASCADE])
    assert done.exit_code == 3
    assert "nobody here knows its commit; set MLFLOW_TRACKING_URI" in done.output


def test_reproduce__a_commit_of_the_tracking_server_that_is_no_hash_is_refused(content_id: str) -> None:
    (Path("runs/assemble_cascade") / f"{content_id}.json").unlink()
    client = connect()
    commit = f"{COMMIT}; touch pwned \x1b[2J"
    client.create_run(open_experiment(client), tags={"content_id": content_id, "commit": commit})
    for flags in ([], ["--run"]):
        done = CliRunner().invoke(main, ["reproduce", CASCADE, *flags])
        assert done.exit_code == 3
        assert f"its commit is '{COMMIT}; touch pwned \\x1b[2J'; must be 40 hexadecimal digits" in done.output
        assert "git worktree" not in done.output


def test_reproduce__a_content_id_that_is_no_hash_is_refused(content_id: str) -> None:
    path = Path(CASCADE) / "content.json"
    path.write_text(path.read_text().replace(content_id, "$(touch pwned)"))
    done = CliRunner().invoke(main, ["reproduce", CASCADE])
    assert done.exit_code == 3
    assert f"{CASCADE}: its content_id is '$(touch pwned)'; must be 64 hexadecimal digits" in done.output
