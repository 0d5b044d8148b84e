import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes
import pytest
import yaml

from pipeline import ROOT
from pipelines.placement import read_placement

FOLDER = ROOT / "deploy" / "kubeflow"
FILES = sorted(FOLDER.glob("*.yaml"))
# But for Kueue's own kinds, of which kubernetes' client has no models.
DOCUMENTS = [
    pytest.param(document, id=f"{path.stem}-{document['kind']}-{document['metadata']['name']}")
    for path in FILES
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    if not document["apiVersion"].startswith("kueue.")
]


@dataclass(frozen=True)
class Response:
    """What kubernetes' client reads models from."""

    data: str


def read(name: str, kind: str) -> dict[str, Any]:
    documents = yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))
    return next(document for document in documents if document["kind"] == kind)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_manifests__hold_nothing_that_kubernetes_does_not_know(document: dict[str, Any]) -> None:
    client = kubernetes.client.ApiClient()
    model = client.deserialize(Response(json.dumps(document)), f"V1{document['kind']}")
    assert client.sanitize_for_serialization(model) == client.sanitize_for_serialization(document)


def test_settings__hold_the_keys_that_placement_names_and_no_secret() -> None:
    placement = read_placement()
    secret, config_map = (read("settings.example.yaml", kind) for kind in ("Secret", "ConfigMap"))
    assert secret["metadata"]["name"] == placement.secret.name
    assert config_map["metadata"]["name"] == placement.config_map.name
    assert sorted(secret["stringData"]) == sorted(placement.secret.keys)
    assert sorted(config_map["data"]) == sorted(placement.config_map.keys)
    assert all(value == value.upper() for value in secret["stringData"].values()), "a placeholder is upper case"


def test_mlflow__serves_where_the_settings_say() -> None:
    service = read("mlflow.example.yaml", "Service")
    address = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    assert read("settings.example.yaml", "ConfigMap")["data"]["MLFLOW_TRACKING_URI"] == address


def test_rbac__every_binding_has_its_role_and_account() -> None:
    documents = list(yaml.safe_load_all((FOLDER / "rbac.yaml").read_text(encoding="utf-8")))
    names = {
        kind: {one["metadata"]["name"] for one in documents if one["kind"] == kind}
        for kind in ("Role", "ServiceAccount")
    }
    for binding in (one for one in documents if one["kind"] == "RoleBinding"):
        assert binding["roleRef"]["name"] in names["Role"]
        assert {subject["name"] for subject in binding["subjects"]} <= names["ServiceAccount"]
    verbs = {verb for one in documents if one["kind"] == "Role" for rule in one["rules"] for verb in rule["verbs"]}
    assert not verbs & {"*", "delete", "update"}


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "pipelines").rglob("*.yaml"))], ids=lambda path: path.name)
def test_manifests__name_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not [word for word in ("127.0.0.1", "/root", "/home", "/work") if word in text]
