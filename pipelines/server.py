"""A Kubeflow Pipelines server: pipelines, versions and runs found or made, never made twice."""

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api as api
from urllib3.exceptions import HTTPError

from tumor_cascade.errors import TumorCascadeError

TOKEN_VARIABLE = "TUMOR_CASCADE_KFP_TOKEN"
ENDPOINT_VARIABLE = "KF_PIPELINES_ENDPOINT"  # kfp's own
PROBE_TIMEOUT_S = 10


class ServerError(TumorCascadeError):
    """The server cannot be reached, or refuses."""

    exit_code = 5


@contextmanager
def explained(host: str) -> Iterator[None]:
    """Turn what a server or the way to it answers into an error that says what to do.

    Raises:
        ServerError: In the place of kfp's own errors.
    """
    try:
        yield
    except api.ApiException as error:
        reason = f"{error.status} {error.reason}: {str(error.body or '').strip()[:500]}"
        hint = f"set {TOKEN_VARIABLE}" if error.status in (401, 403) else "see the server's log"
        raise ServerError(f"{host} refuses ({reason}); {hint}.") from error
    except (HTTPError, OSError) as error:
        raise ServerError(
            f"{host} cannot be reached ({error}); check --host, and that the server or a port-forward to it runs."
        ) from error


class PipelineServer:
    """What `submit` asks of a server."""

    def __init__(self, host: str | None, namespace: str | None, ca_cert: Path | None) -> None:
        """Connect.

        Args:
            host: URL; None: KF_PIPELINES_ENDPOINT, else the cluster of the pod or of the current kubectl context.
            namespace: Of a multi-user Kubeflow; None: the server has a single user.
            ca_cert: Certificates to trust, of a server with its own authority.

        Raises:
            ServerError: It cannot be reached.
        """
        self.namespace = namespace
        host = host or os.environ.get(ENDPOINT_VARIABLE)
        token, certificates = os.environ.get(TOKEN_VARIABLE), str(ca_cert) if ca_cert else None
        self.host = host.rstrip("/") if host else "the cluster"
        with explained(self.host), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if host:
                probe(self.host, token, certificates)
            # Without a host, Kubernetes' proxy to the server's service in `namespace`, which is not that of the runs.
            self.client = kfp.Client(host=host, namespace="kubeflow", existing_token=token, ssl_ca_cert=certificates)

    def find_or_create_pipeline(self, name: str, description: str) -> str:
        """Return the id of a pipeline."""
        with explained(self.host):
            if found := self._find_pipeline(name):
                return found
            pipeline = api.V2beta1Pipeline(
                name=name, display_name=name, description=description, namespace=self.namespace
            )
            try:  # kfp's client uploads pipelines only together with a version of the same name
                return str(self.client._pipelines_api.pipeline_service_create_pipeline(pipeline).pipeline_id)
            except api.ApiException as error:
                if error.status == 409 and (found := self._find_pipeline(name)):
                    return found  # made by somebody else meanwhile
                raise

    def find_or_upload_version(self, pipeline_id: str, name: str, package: Path) -> str:
        """Return the id of a version with these bytes.

        Args:
            pipeline_id: Of the pipeline.
            name: Of the version; it follows from the bytes.
            package: Compiled YAML.
        """
        with explained(self.host):
            if found := self._find_version(pipeline_id, name):
                return found
            try:
                uploaded = self.client._upload_api.upload_pipeline_version(
                    str(package), name=name, pipelineid=pipeline_id
                )
            except api.ApiException as error:
                if error.status == 409 and (found := self._find_version(pipeline_id, name)):
                    return found
                raise
            return str(uploaded.pipeline_version_id)

    def find_or_create_experiment(self, name: str) -> str:
        """Return the id of an experiment."""
        with explained(self.host):
            try:
                found = self.client.get_experiment(experiment_name=name, namespace=self.namespace)
            except ValueError:  # there is none
                wanted = api.V2beta1Experiment(display_name=name, namespace=self.namespace)
                found = self.client._experiment_api.experiment_service_create_experiment(wanted)
            return str(found.experiment_id)

    def find_latest_run(self, experiment_id: str, name: str) -> Any:
        """Return the latest run of a name in an experiment, or None."""
        with explained(self.host):
            answer = self.client.list_runs(
                experiment_id=experiment_id, sort_by="created_at desc", page_size=1, filter=equals(name)
            )
            return answer.runs[0] if answer.runs else None

    def create_run(self, experiment_id: str, name: str, version: tuple[str, str], **settings: Any) -> Any:
        """Start a run.

        Args:
            experiment_id: Where it is listed.
            name: Of the run.
            version: Ids of pipeline and version.
            settings: `arguments`, `service_account`, `pipeline_root`.
        """
        reference = api.V2beta1PipelineVersionReference(pipeline_id=version[0], pipeline_version_id=version[1])
        runtime = api.V2beta1RuntimeConfig(parameters=settings["arguments"], pipeline_root=settings["pipeline_root"])
        run = api.V2beta1Run(
            experiment_id=experiment_id,
            display_name=name,
            pipeline_version_reference=reference,
            runtime_config=runtime,
            service_account=settings["service_account"],
        )
        with explained(self.host):
            return self.client._run_api.run_service_create_run(run)

    def read_run(self, run_id: str) -> Any:
        """Return a run as it is now."""
        with explained(self.host):
            return self.client.get_run(run_id)

    def link(self, kind: str, *ids: str) -> str:
        """Return the address of a page: of `pipelines` or `runs`."""
        return f"{self.client._get_url_prefix()}/#/{kind}/details/{'/version/'.join(ids)}"

    def _find_pipeline(self, name: str) -> str | None:
        found = self.client.list_pipelines(namespace=self.namespace, filter=equals(name)).pipelines
        return str(found[0].pipeline_id) if found else None

    def _find_version(self, pipeline_id: str, name: str) -> str | None:
        found = self.client.list_pipeline_versions(pipeline_id, filter=equals(name)).pipeline_versions
        return str(found[0].pipeline_version_id) if found else None


def equals(name: str) -> str:
    """Return the filter of what is shown under a name."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def probe(host: str, token: str | None, certificates: str | None) -> None:
    """Ask once whether the server is there; kfp's client asks five times and writes five tracebacks."""
    configuration = api.Configuration(host=host)
    configuration.ssl_ca_cert = certificates
    configuration.retries = False
    if token:
        configuration.api_key, configuration.api_key_prefix = {"authorization": token}, {"authorization": "Bearer"}
    health = api.HealthzServiceApi(api.ApiClient(configuration))
    health.healthz_service_get_healthz(_request_timeout=PROBE_TIMEOUT_S)
