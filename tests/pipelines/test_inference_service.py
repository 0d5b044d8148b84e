import importlib
from pathlib import Path
from typing import Any

import pytest

from pipelines.golden import IMAGE
from pipelines.inference_service import render_inference_service
from pipelines.placement import read_placement
from published_models import KSERVE, find_kserve_faults, install_apart
from tumor_cascade.cli import main
from tumor_cascade.serving.app import build_app
from tumor_cascade.serving.service import Service


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_apart(tmp_path_factory.mktemp("kserve"), KSERVE)


@pytest.fixture
def manifest() -> dict[str, Any]:
    return render_inference_service(IMAGE, 3, "c0ffee" + 58 * "0", read_placement())


def test_render_inference_service__is_what_kserve_knows(
    package: Path, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_kserve_faults(package, manifest, monkeypatch) == []


def test_render_inference_service__what_kserve_does_not_know_is_found(
    package: Path, manifest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    container = manifest["spec"]["predictor"]["containers"][0]
    container["livenessProbe"]["httpget"] = container["livenessProbe"].pop("httpGet")
    container["command"] = "serve"
    manifest["spec"]["predictor"]["minReplicas"] = "1"
    del container["name"]
    assert find_kserve_faults(package, manifest, monkeypatch) == [
        "/spec/predictor/minReplicas is '1'; must be int",
        "/spec/predictor/containers/0: Invalid value for `name`, must not be `None`",
        "/spec/predictor/containers/0/command is no list",
        "/spec/predictor/containers/0/livenessProbe/httpget is unknown to V1Probe",
    ]


def test_render_inference_service__serves_the_pinned_version(manifest: dict[str, Any]) -> None:
    (container,) = manifest["spec"]["predictor"]["containers"]
    program, name, *flags = container["command"]
    asked = main.commands[name].make_context(name, flags).params
    assert program == "tumor-cascade"
    assert asked == {
        **asked,
        "model": "models:/tumor-cascade/3",
        "host": "0.0.0.0",
        "port": container["ports"][0]["containerPort"],
        "max_requests": manifest["spec"]["predictor"]["containerConcurrency"],
    }
    assert container["image"] == IMAGE


def test_render_inference_service__may_have_keys_of_its_own() -> None:
    placement = read_placement()
    serving = placement.serving.model_copy(update={"secret": "readers"})
    manifest = render_inference_service(IMAGE, 3, "c0ffee", placement.model_copy(update={"serving": serving}))
    (container,) = manifest["spec"]["predictor"]["containers"]
    assert {"secretRef": {"name": "readers"}} in container["envFrom"]
    assert {"secretRef": {"name": placement.secret.name}} not in container["envFrom"]


def test_render_inference_service__asks_probes_that_the_server_has(manifest: dict[str, Any]) -> None:
    (container,) = manifest["spec"]["predictor"]["containers"]
    service = Service(max_body_bytes=1, max_requests=1)
    routes = {getattr(route, "path", "") for route in build_app(service).routes}
    service.close()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in routes
    seconds = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
    assert seconds == read_placement().serving.start_timeout_s


def test_render_inference_service__without_any_privilege(manifest: dict[str, Any]) -> None:
    predictor = manifest["spec"]["predictor"]
    (container,) = predictor["containers"]
    assert predictor["securityContext"]["runAsNonRoot"] and predictor["securityContext"]["runAsUser"] == 1000
    assert not predictor["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert importlib.import_module("yaml").safe_dump(manifest).count("value:") == 2  # no secret stands in it
