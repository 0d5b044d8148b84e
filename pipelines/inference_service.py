"""A version of the registry behind KServe: `tumor-cascade serve` in the project's own image, the version pinned.

An alias may move while pods come and go; two pods of one service would then answer by two versions. So the alias is
read when the manifest is rendered, and a rollout is a new manifest: reviewed, applied, undone like any other.
"""

from typing import Any

from pipelines.placement import Placement
from pipelines.pods import build_container, build_pod, build_resources

API_VERSION = "serving.kserve.io/v1beta1"
CONTAINER = "kserve-container"  # KServe looks for this name
PORT = 8080
PROBE_PERIOD_S, PROBE_TIMEOUT_S = 10, 5
REQUEST_TIMEOUT_S = 60  # the server itself gives up before


def render_inference_service(image: str, version: int, content_id: str, placement: Placement) -> dict[str, Any]:
    """Return the InferenceService of a version.

    Args:
        image: Reference.
        version: Of the model `tumor-cascade` in the registry.
        content_id: Of the cascade, for whoever reads the manifest.
        placement: Nodes, variables, replicas.
    """
    serving = placement.serving
    kind = placement.kinds[serving.kind]
    secret = placement.secret.model_copy(update={"name": serving.secret})
    placement = placement.model_copy(update={"secret": secret})
    uri = f"models:/tumor-cascade/{version}"
    flags = {"model": uri, "host": "0.0.0.0", "port": PORT, "max-requests": serving.concurrency}
    command = ["tumor-cascade", "serve", *(str(text) for name, value in flags.items() for text in (f"--{name}", value))]
    num_accelerators = 0 if kind.accelerator is None else kind.accelerator.number
    container = {
        **build_container(CONTAINER, image, command, placement, kind),
        "resources": build_resources(kind, num_accelerators),
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        **build_probes(serving.start_timeout_s),
    }
    return {
        "apiVersion": API_VERSION,
        "kind": "InferenceService",
        "metadata": {
            "name": serving.name,
            "labels": {"app.kubernetes.io/name": "tumor-cascade", **kind.labels},
            "annotations": {
                "serving.kserve.io/deploymentMode": serving.deployment_mode,
                "tumor-cascade/model": uri,
                "tumor-cascade/content-id": content_id,
            },
        },
        "spec": {
            "predictor": {
                **build_pod(placement, kind),
                "minReplicas": serving.min_replicas,
                "maxReplicas": serving.max_replicas,
                "containerConcurrency": serving.concurrency,
                "timeout": REQUEST_TIMEOUT_S,
                "containers": [container],
            }
        },
    }


def build_probes(start_timeout_s: int) -> dict[str, Any]:
    """Return what Kubernetes asks: is the version loaded, is the process alive?"""

    def ask(path: str, num_failures: int) -> dict[str, Any]:
        return {
            "httpGet": {"path": path, "port": PORT},
            "periodSeconds": PROBE_PERIOD_S,
            "timeoutSeconds": PROBE_TIMEOUT_S,
            "failureThreshold": num_failures,
        }

    return {
        "startupProbe": ask("/readyz", -(-start_timeout_s // PROBE_PERIOD_S)),
        "readinessProbe": ask("/readyz", 3),
        "livenessProbe": ask("/livez", 6),
    }
