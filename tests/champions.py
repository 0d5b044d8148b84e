"""A champion as a user makes one: the `smoke` pipeline on real servers, offered to the gate."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from servers import serve_services
from workplaces import Workplace

# Twelve of them are the smoke pipeline's development patients, whom the gate leaves out by itself.
NUM_GENERATED, NUM_KNOWN = 28, 12
NEW_PATIENTS, POLICY = "new-patients", "policies/trial.yaml"
# What a product of two minutes reaches for sure; the phantom's own policy asks for more.
SMOKE_FLOORS = {"slice_auroc": 0.7, "patient_recall": 0.6, "volume_dice": 0.3, "lesion_recall": 0.5}


@dataclass(frozen=True)
class Champion:
    """A promoted version on MLflow with PostgreSQL and S3.

    Attributes:
        workplace: Where it was made; its commands find the servers.
        environment: What clients need to find the servers: MLFLOW_TRACKING_URI, TUMOR_CASCADE_LEDGER, AWS_...
        url: Of MLflow.
        version: In the registry, as in `models:/tumor-cascade/VERSION`.
    """

    workplace: Workplace
    environment: Mapping[str, str]
    url: str
    version: int


def generate_patients(workplace: Workplace) -> None:
    """Write an archive of generated patients into the workplace, most of whom no network of `smoke` knows."""
    setting = f"ingest_data.phantom.num_patients={NUM_GENERATED}"
    workplace.run("tumor-cascade", "configure", "smoke", "--params", "more.yaml", "--set", setting)
    workplace.run("tumor-cascade", "phantom", NEW_PATIENTS, "--params", "more.yaml")


def commit_policy(workplace: Workplace, floors: Mapping[str, float]) -> None:
    """Commit the phantom's policy with other floors under a name of its own."""
    yaml = YAML()
    policy = yaml.load(workplace.folder / "policies/phantom.yaml")
    policy["name"], policy["floors"] = "trial", dict(floors)
    yaml.dump(policy, workplace.folder / POLICY)
    workplace.run("git", "add", POLICY)
    workplace.run("git", "commit", "--quiet", "--message", "A policy")


@contextmanager
def promote_smoke(smoke: Workplace, folder: Path) -> Iterator[Champion]:
    """Offer the product of a finished `smoke` run to the gate of real servers; yield the champion that it becomes.

    The four test patients of `smoke` are too few for its policy, so the first answer is that nobody can say.
    """
    with serve_services() as environment:
        shutil.copytree(smoke.folder, folder, symlinks=True)
        workplace = Workplace(folder, environment)
        said = workplace.run("tumor-cascade", "pipeline", "--promote")
        assert "Version 1: Not decided: the evidence is too weak for Number of patients" in said
        generate_patients(workplace)
        commit_policy(workplace, SMOKE_FLOORS)
        flags = ("--policy", POLICY, "--data", NEW_PATIENTS, "--require-promotion")
        said = workplace.run("tumor-cascade", "promote_cascade", *flags)
        assert "Version 1: Promoted: every check is passed." in said
        yield Champion(workplace, environment, environment["MLFLOW_TRACKING_URI"], version=1)
