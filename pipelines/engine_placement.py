"""Sections of placement.yaml for engines beside pipelines: a training on several nodes, a served champion."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tumor_cascade.params import Section

Replicas = Annotated[int, Field(ge=0, le=1000)]


class TrainJobPlacement(Section):
    """Of a training on several nodes, by Kubeflow Trainer."""

    kind: Annotated[str, Field(description="of its nodes")]
    num_nodes: Annotated[int, Field(ge=1, le=64)]
    num_processes_per_node: Annotated[int, Field(ge=1, le=16, description="one per GPU; a batch is dealt to all")]


class ServingPlacement(Section):
    """Of a served version, by KServe."""

    kind: Annotated[str, Field(description="of its nodes")]
    name: Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$", description="of the InferenceService")]
    deployment_mode: Annotated[
        Literal["Standard", "RawDeployment", "Knative", "Serverless"],
        Field(description="of KServe; the second and fourth are what releases before 0.16 call the first and third"),
    ]
    min_replicas: Annotated[Replicas, Field(description="0: none while nobody asks, which Knative can do")]
    max_replicas: Annotated[Replicas, Field(ge=1)]
    concurrency: Annotated[int, Field(ge=1, le=256, description="requests that a replica answers at the same time")]
    secret: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", description="with keys that only read")]
    start_timeout_s: Annotated[int, Field(ge=30, description="to fetch, check and load a version")]

    @model_validator(mode="after")
    def check_replicas(self) -> "ServingPlacement":
        """Refuse an empty range."""
        if self.min_replicas > self.max_replicas:
            rule = f"must be at most max_replicas ({self.max_replicas}); lower it"
            raise ValueError(f"min_replicas is {self.min_replicas}; {rule}")
        return self
