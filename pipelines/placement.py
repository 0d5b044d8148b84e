"""Where tasks run on a cluster: `placement.yaml`, checked."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipelines.engine_placement import ServingPlacement, TrainJobPlacement
from tumor_cascade.errors import ParamsError
from tumor_cascade.params import Section, check_values

DEFAULT_PATH = Path(__file__).with_name("placement.yaml")
CACHE_VARIABLE = "TUMOR_CASCADE_DATA_CACHE"  # where a pod finds data_cache.path

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", description="of a Kubernetes object")]
Cores = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?m?$", description="as Kubernetes writes it: 2, 0.5 or 500m")]
Bytes = Annotated[str, Field(pattern=r"^[0-9]+([KMGT]i?)?$", description="as Kubernetes writes it: 512Mi")]
Seconds = Annotated[int, Field(ge=1, lt=2**31)]
Texts = dict[str, str]


class PipelinePlacement(Section):
    """Of a run as a whole; null for a server before 2.17, which refuses a pipeline that names them."""

    ttl_s: Annotated[Seconds | None, Field(description="a finished workflow is removed then")]
    deadline_s: Annotated[Seconds | None, Field(description="a running workflow is stopped then")]
    user_id: Annotated[int | None, Field(ge=1, description="of processes, and their group; never root")]


class DataCache(Section):
    """Where a pod keeps packed volumes."""

    path: Annotated[str, Field(pattern=r"^/", description="in the pod")]
    claim: Annotated[str, Field(description="a volume claim that pods share; empty: a folder of the pod's own")]
    size: Annotated[Bytes, Field(description="of a folder of the pod's own")]


class Variables(Section):
    """A Kubernetes secret or config map; its keys become environment variables."""

    name: Name
    keys: Annotated[list[str], Field(description="all must exist in it")]


class CoresRange(Section):
    """Processor cores."""

    request: Cores
    limit: Cores


class BytesRange(Section):
    """Memory."""

    request: Bytes
    limit: Bytes


class Accelerator(Section):
    """A GPU, as the device plugin of the cluster names it."""

    resource: Annotated[str, Field(min_length=1, description="nvidia.com/gpu, amd.com/gpu, nvidia.com/mig-1g.10gb")]
    number: Annotated[int, Field(ge=1, le=16)]


class NodeRule(Section):
    """What a node's label must or must not be."""

    key: Annotated[str, Field(min_length=1)]
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    values: Annotated[list[str], Field(default_factory=list)]


class Toleration(Section):
    """A taint that does not keep a task away."""

    key: Annotated[str, Field(min_length=1)]
    operator: Literal["Exists", "Equal"]
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    value: str | None = None


class Retries(Section):
    """What is done after a failure, a node's shutdown among them."""

    number: Annotated[int, Field(ge=0, le=100)]
    backoff_s: Annotated[int, Field(ge=0, description="before the first retry")]
    factor: Annotated[float, Field(ge=1, description="of each further wait")]
    within_s: Annotated[int, Field(ge=0, description="since the first start; later failures are not tried again")]


class Kind(Section):
    """A kind of node, and what a task gets there."""

    cpu: CoresRange
    memory: BytesRange
    accelerator: Accelerator | None
    environment: Texts
    labels: Texts
    node_selector: Texts
    node_affinity: list[NodeRule]
    tolerations: list[Toleration]
    shared_memory: Annotated[Bytes, Field(description="of /dev/shm")]
    scratch: Annotated[
        Bytes, Field(description="of /tmp, and of a training pod's working folder; a pod is evicted above")
    ]
    timeout_s: Annotated[Seconds, Field(description="of an attempt")]
    retries: Retries


class Placement(Section):
    """The whole of placement.yaml."""

    pipeline: PipelinePlacement
    data_cache: DataCache
    secret: Variables
    config_map: Variables
    image_pull_secrets: list[Name]
    tasks: Annotated[Texts, Field(description="command -> kind")]
    train_job: TrainJobPlacement
    serving: ServingPlacement
    kinds: dict[str, Kind]

    @model_validator(mode="after")
    def check_retries(self) -> "Placement":
        """Refuse retries that end before a long attempt does: Argo counts the time of attempts in."""
        faults = [
            f"kinds.{name}.retries.within_s is {kind.retries.within_s} with a timeout_s of {kind.timeout_s}; must be "
            "longer: it counts from the first start, and what fails after it is not tried again; raise it"
            for name, kind in self.kinds.items()
            if kind.retries.number and kind.retries.within_s <= kind.timeout_s
        ]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @model_validator(mode="after")
    def check_kinds(self) -> "Placement":
        """Refuse tasks of a kind that there is not."""
        named = {*self.tasks.values(), self.train_job.kind, self.serving.kind}
        unknown = sorted({kind for kind in named if kind not in self.kinds})
        if unknown:
            raise ValueError(f"tasks name {', '.join(unknown)}; must be one of {', '.join(self.kinds)}; correct them")
        return self


def read_placement(path: Path = DEFAULT_PATH) -> Placement:
    """Return a checked placement file.

    Raises:
        ParamsError: It cannot be read, is no YAML, or breaks a rule; with every violation.
    """
    try:
        values: Any = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"placement {path}: cannot be read ({error}); copy pipelines/placement.yaml.") from error
    except YAMLError as error:
        raise ParamsError(f"placement {path}: is no valid YAML: {error}") from error
    return check_values(Placement, values, path.name, ())
