"""A training on several nodes: what Trainer is given, and that its very commands train one network in two pods."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.golden import IMAGE
from pipelines.placement import Placement, read_placement
from pipelines.plan import Plan, RawData, build_plan
from pipelines.pods import WORK_DIR
from pipelines.train_job import render_train_job
from published_models import TRAINER, find_trainer_faults, install_apart
from tumor_cascade.configuration import configure
from tumor_cascade.content import hash_making
from tumor_cascade.errors import ParamsError
from tumor_cascade.storage import hash_file

SETTINGS = (
    "ingest_data.phantom.num_patients=8",
    "ingest_data.phantom.num_slices=8",
    "split_data.num_folds=2",
    "train_segmenter.max_epochs=2",
)
TIMEOUT_S = 300


def build_smoke_plan(folder: Path, placement: Placement, *settings: str) -> Plan:
    configure("smoke", folder / "params.yaml", (*SETTINGS, *settings))
    return build_plan(IMAGE, folder / "params.yaml", (), RawData(), placement)


def set_nodes(num_nodes: int, num_processes: int) -> Placement:
    placement = read_placement()
    sizes = {"num_nodes": num_nodes, "num_processes_per_node": num_processes}
    return placement.model_copy(update={"train_job": placement.train_job.model_copy(update=sizes)})


def find_pod(runtime: dict[str, Any]) -> dict[str, Any]:
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod: dict[str, Any] = job["template"]["spec"]["template"]["spec"]
    return pod


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_apart(tmp_path_factory.mktemp("trainer"), TRAINER)


def test_render_train_job__is_what_trainer_knows(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(published)
    manifests = render_train_job(build_smoke_plan(tmp_path, set_nodes(2, 4)), "train_segmenter", 1)
    assert find_trainer_faults(manifests) == []
    job = manifests[1]["spec"]
    job["trainer"]["numNode"] = job["trainer"].pop("numNodes")
    assert find_trainer_faults(manifests) == ["TrainJob/spec/trainer/numNode is 2; was understood as None"]


def test_render_train_job__says_the_number_of_processes_once(tmp_path: Path) -> None:
    runtime, job = render_train_job(build_smoke_plan(tmp_path, set_nodes(2, 4)), "train_segmenter", 1)
    trainer, (node,) = job["spec"]["trainer"], find_pod(runtime)["containers"]
    told = {one["name"]: one["value"] for one in node["env"]}
    assert (trainer["numNodes"], told["TUMOR_CASCADE_NUM_NODES"]) == (2, "2")
    assert (trainer["numProcPerNode"], told["TUMOR_CASCADE_NUM_PROCESSES"]) == (4, "4")
    assert trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"] == "4"
    assert not [one for one in told if one.startswith("PET_")]  # Trainer's own
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"] == job["metadata"]["name"]


def test_render_train_job__each_container_refuses_an_image_of_other_code(tmp_path: Path) -> None:
    pod = find_pod(render_train_job(build_smoke_plan(tmp_path, set_nodes(1, 1)), "train_classifier", 0)[0])
    told = {
        one["name"]: variable["value"]
        for one in (*pod["initContainers"], *pod["containers"])
        for variable in one["env"]
        if variable["name"] == "TUMOR_CASCADE_EXPECTED_MAKING"
    }
    stages = {"ingest-data": "ingest_data", "split-data": "split_data", "node": "train_classifier"}
    assert told == {name: hash_making(stage) for name, stage in stages.items()}


def test_render_train_job__equal_plans_have_equal_names(tmp_path: Path) -> None:
    plan, other = (build_smoke_plan(tmp_path, set_nodes(2, number)) for number in (1, 2))
    names = [
        render_train_job(*parts)[0]["metadata"]["name"]
        for parts in ((plan, "train_segmenter", 1), (plan, "train_segmenter", 1), (other, "train_segmenter", 1))
    ]
    assert names[0] == names[1] != names[2]


def test_render_train_job__a_batch_that_cannot_be_dealt_is_refused(tmp_path: Path) -> None:
    plan = build_smoke_plan(tmp_path, set_nodes(3, 1))
    with pytest.raises(ParamsError, match="batch_size is 16; must be a multiple of the 3 processes"):
        render_train_job(plan, "train_segmenter", 0)


def test_render_train_job__a_loss_over_the_whole_batch_is_refused(tmp_path: Path) -> None:
    plan = build_smoke_plan(tmp_path, set_nodes(2, 1), "train_segmenter.reduction=per_batch")
    with pytest.raises(ParamsError, match="reduction is per_batch; must be per_image where processes share a batch"):
        render_train_job(plan, "train_segmenter", 0)
    render_train_job(plan, "train_classifier", 0)  # has no such loss


def test_render_train_job__a_fold_that_is_not_there_is_refused(tmp_path: Path) -> None:
    plan = build_smoke_plan(tmp_path, set_nodes(2, 1))
    with pytest.raises(ParamsError, match=r"fold is 2; must be below split_data.num_folds, 2"):
        render_train_job(plan, "train_segmenter", 2)


class Pods:
    """A machine in the place of a cluster: each pod a folder, the stores folders that they share."""

    def __init__(self, folder: Path, manifests: list[dict[str, Any]]) -> None:
        self.folder, self.pod = folder, find_pod(manifests[0])
        self.trainer = manifests[1]["spec"]["trainer"]

    def start(self, name: str, command: list[str], container: dict[str, Any], **more: str) -> subprocess.Popen[str]:
        """Start a command of a container; its own folder is WORK_DIR."""
        work = self.folder / name
        work.mkdir(parents=True, exist_ok=True)
        environment = {
            **{one["name"]: one["value"] for one in container["env"]},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "HOME": str(work),
            "OMP_NUM_THREADS": "1",
            "TUMOR_CASCADE_NUM_THREADS": "1",
            "TUMOR_CASCADE_DEVICE": "cpu",
            "TUMOR_CASCADE_CHECKPOINT_STORE": str(self.folder / "checkpoints"),
            "TUMOR_CASCADE_DATA_STORE": str(self.folder / "data"),
            "TUMOR_CASCADE_DATA_CACHE": str(work / "cache"),
            **more,
        }
        here = [text.replace(WORK_DIR, str(work)) if text.startswith(f"{WORK_DIR}/") else text for text in command]
        return subprocess.Popen(here, cwd=work, env=environment, stderr=subprocess.PIPE, text=True)

    def prepare(self, name: str) -> None:
        """Run what comes before a training."""
        for container in self.pod["initContainers"]:
            finish(self.start(name, container["command"], container))


def finish(process: subprocess.Popen[str]) -> str:
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, stderr
    return stderr


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.mark.slow
@pytest.mark.e2e
def test_train_job__two_pods_train_one_network_that_any_machine_takes_over(tmp_path: Path) -> None:
    manifests = render_train_job(build_smoke_plan(tmp_path, set_nodes(2, 1)), "train_segmenter", 0)
    pods = Pods(tmp_path, manifests)
    (node,), trainer = pods.pod["containers"], pods.trainer
    for name in ("first", "second"):
        pods.prepare(name)
    given_by_trainer = {
        "PET_NNODES": str(trainer["numNodes"]),
        "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(find_port()),
    }
    running = [
        pods.start(name, trainer["command"], node, **given_by_trainer, PET_NODE_RANK=str(rank))
        for rank, name in enumerate(("first", "second"))
    ]
    told = [finish(process) for process in running]
    assert ["epoch 2/2" in text for text in told] == [True, False]  # one process speaks, and writes
    trained = pods.folder / "first" / "train_segmenter" / "segmenter"
    assert not (pods.folder / "second" / "train_segmenter").exists()

    pods.prepare("elsewhere")
    alone = [*trainer["command"][2:]]
    single = {"TUMOR_CASCADE_NUM_NODES": "1", "TUMOR_CASCADE_NUM_PROCESSES": "1"}
    text = finish(pods.start("elsewhere", alone, node, **single))
    assert "carries on from the checkpoint" in text and "epoch" not in text
    found = pods.folder / "elsewhere" / "train_segmenter" / "segmenter"
    for name in ("weights.safetensors", "config.json", "content.json"):
        assert hash_file(found / name) == hash_file(trained / name)
    metrics = json.loads((found.parent / "metrics").read_text())
    assert metrics["segmenter/num_epochs"] == 2
