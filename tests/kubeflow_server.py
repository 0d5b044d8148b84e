"""A small HTTP server that answers as Kubeflow Pipelines does, with the models of its own client library.

It keeps pipelines, versions, experiments and runs in memory. Every answer is built as a model, so a field that the API
does not have cannot slip in; every request's body is read into its model the same way.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api

PREFIX = "/apis/v2beta1"
PROXY = "/api/v1/namespaces/kubeflow/services/ml-pipeline:http/proxy"  # of Kubernetes, where the server has no address


@dataclass
class Kubeflow:
    """The server's state, and how its runs go.

    Attributes:
        states: What each question about a run is answered, in turn; the last one stays.
        tasks: Of each run; where the run fails, the last one has failed.
        token: That requests must bring; empty for any.
        num_outages: So many of the next questions about a run are answered 503.
    """

    states: list[str] = field(default_factory=lambda: ["PENDING", "RUNNING", "SUCCEEDED"])
    tasks: list[str] = field(default_factory=lambda: ["predict"])
    token: str = ""
    num_outages: int = 0
    pipelines: list[api.V2beta1Pipeline] = field(default_factory=list)
    versions: list[api.V2beta1PipelineVersion] = field(default_factory=list)
    experiments: list[api.V2beta1Experiment] = field(default_factory=list)
    runs: list[api.V2beta1Run] = field(default_factory=list)
    uploads: list[bytes] = field(default_factory=list)
    num_asked: dict[str, int] = field(default_factory=dict)
    url: str = ""

    def answer(self, method: str, path: str, query: dict[str, str], body: bytes) -> Any:
        """Return the model that answers a request, or an HTTP status."""
        wanted = json.loads(query["filter"])["predicates"][0]["stringValue"] if query.get("filter") else None
        if path == "/healthz":
            return api.V2beta1GetHealthzResponse(multi_user=False)
        if path == "/pipelines" and method == "GET":
            return api.V2beta1ListPipelinesResponse(pipelines=select(self.pipelines, wanted))
        if path == "/pipelines":
            pipeline = read_model(body, "V2beta1Pipeline")
            pipeline.pipeline_id = f"pipeline-{len(self.pipelines)}"
            return keep(self.pipelines, pipeline)
        if path == "/pipelines/upload_version":
            self.uploads.append(body)
            version_id, name = f"version-{len(self.versions)}", query["name"]
            version = api.V2beta1PipelineVersion(
                pipeline_id=query["pipelineid"], pipeline_version_id=version_id, display_name=name, name=name
            )
            return keep(self.versions, version)
        if re.fullmatch(r"/pipelines/pipeline-\d+/versions", path):
            return api.V2beta1ListPipelineVersionsResponse(pipeline_versions=select(self.versions, wanted))
        if path == "/experiments" and method == "GET":
            theirs = [one for one in self.experiments if (one.namespace or "") == query.get("namespace", "")]
            return api.V2beta1ListExperimentsResponse(experiments=select(theirs, wanted))
        if path == "/experiments":
            experiment = read_model(body, "V2beta1Experiment")
            experiment.experiment_id = f"experiment-{len(self.experiments)}"
            return keep(self.experiments, experiment)
        if path == "/runs" and method == "GET":
            assert query["sort_by"] == "created_at desc"
            runs = [self.show(run) for run in reversed(self.runs) if run.experiment_id == query["experiment_id"]]
            return api.V2beta1ListRunsResponse(runs=select(runs, wanted)[: int(query["page_size"])])
        if path == "/runs":
            run = read_model(body, "V2beta1Run")
            run.run_id = f"run-{len(self.runs)}"
            return keep(self.runs, run)
        if match := re.fullmatch(r"/runs/(run-\d+)", path):
            if self.num_outages:
                self.num_outages -= 1
                return 503
            self.num_asked[match[1]] = self.num_asked.get(match[1], -1) + 1
            return self.show(next(run for run in self.runs if run.run_id == match[1]))
        return 404

    def show(self, run: api.V2beta1Run) -> api.V2beta1Run:
        """Return a run in the state that it has reached."""
        number = min(max(self.num_asked.get(run.run_id, 0), 0), len(self.states) - 1)
        run.state = self.states[number]
        state = run.state if run.state in ("PENDING", "RUNNING") else "SUCCEEDED"
        states = dict.fromkeys(self.tasks, state)
        if run.state == "FAILED":
            states[self.tasks[-1]] = "FAILED"
        shown = {"root": run.state, f"{self.tasks[0]}-driver": "SUCCEEDED", **states}
        details = [
            api.V2beta1PipelineTaskDetail(task_id=name, display_name=name, state=state) for name, state in shown.items()
        ]
        run.run_details = api.V2beta1RunDetails(task_details=details)
        return run


def select(models: list[Any], name: str | None) -> list[Any]:
    """Return the models that are shown under a name."""
    return [model for model in models if name in (None, model.display_name)]


def keep(models: list[Any], model: Any) -> Any:
    """Add a model and return it; one with the name of another is a conflict, but for runs."""
    if not isinstance(model, api.V2beta1Run) and any(one.display_name == model.display_name for one in models):
        return 409
    models.append(model)
    return model


def read_model(body: bytes, kind: str) -> Any:
    """Return a request's body as a model of the API."""

    class Response:
        data = body.decode()

    model = api.ApiClient().deserialize(Response(), kind)
    assert set(json.loads(body)) <= set(model.attribute_map.values()), f"no {kind}: {body!r}"
    return model


@contextmanager
def serve_kubeflow(kubeflow: Kubeflow) -> Iterator[Kubeflow]:
    """Serve a state on loopback; its `url` says where."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            if kubeflow.token and self.headers.get("authorization") != f"Bearer {kubeflow.token}":
                answer: Any = 401
            else:
                answer = kubeflow.answer(self.command, parts.path.removeprefix(PROXY).removeprefix(PREFIX), query, body)
            content = json.dumps(api.ApiClient().sanitize_for_serialization({} if isinstance(answer, int) else answer))
            self.send_response(answer if isinstance(answer, int) else 200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content.encode())

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_arguments: object) -> None:
            """Keep the tests' output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kubeflow.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield kubeflow
        finally:
            server.shutdown()
            thread.join()
