"""What a pipeline is compiled from: image, params, data and placement."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.placement import Placement
from tumor_cascade.configuration import read_overridden
from tumor_cascade.errors import ParamsError
from tumor_cascade.params import Params, parse_params
from tumor_cascade.stages.interface import SECTIONS
from tumor_cascade.storage import canonical_json

DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


@dataclass(frozen=True)
class RawData:
    """What `ingest_data` starts from: at most one of both; neither is the phantom.

    Attributes:
        url: `s3://bucket/key-or-prefix` of raw data.
        reference: Of data that DVC has versioned, as JSON.
    """

    url: str = ""
    reference: str = ""


@dataclass(frozen=True)
class Plan:
    """All that a pipeline is compiled from.

    Attributes:
        image: Of all tasks.
        values: Sections of the params file as plain values, checked.
        data: What is ingested.
        placement: Where tasks run.
    """

    image: str
    values: dict[str, Any]
    data: RawData
    placement: Placement

    @property
    def params(self) -> Params:
        """The checked params."""
        return parse_params(self.values, "params")

    def select_sections(self, stage: str) -> str:
        """Return the sections that a stage needs, and no others, as JSON."""
        return canonical_json({name: self.values[name] for name in SECTIONS[stage]}).decode()


def build_plan(
    image: str,
    params_path: Path,
    overrides: tuple[str, ...],
    data: RawData,
    placement: Placement,
    *,
    ingests: bool = True,
) -> Plan:
    """Return a plan that can work.

    Args:
        image: Reference; see `is_pinned`.
        params_path: Params file.
        overrides: `section.key=value` each.
        data: What is ingested.
        placement: Where tasks run.
        ingests: Whether the pipeline reads the data at all.

    Raises:
        ParamsError: A value breaks its rule, or the data do not fit the params.
    """
    values = read_overridden(params_path, overrides)
    source = parse_params(values, " ".join([params_path.name, *filter(None, overrides)])).ingest_data.source
    if data.url and data.reference:
        raise ParamsError("both raw data and a reference are given; name one of them.")
    if ingests and source != "phantom" and not (data.url or data.reference):
        raise ParamsError(
            f"ingest_data.source is {source} and no data are named; give --rev or --reference of versioned data, or "
            "--raw s3://bucket/prefix."
        )
    if source == "phantom" and data.url:
        raise ParamsError(
            f"ingest_data.source is phantom, which reads no raw data; configure another, or drop {data.url}."
        )
    return Plan(image, values, data, placement)


def is_pinned(image: str) -> bool:
    """Say whether an image is named by digest: a tag can be moved, and what runs would not be what was compiled."""
    return DIGEST.search(image) is not None
