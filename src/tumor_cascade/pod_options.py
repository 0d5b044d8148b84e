"""What a stage's command takes in a container that a desk does without: params as text, networks one by one.

None of it reaches a stage: params become values, networks one folder, and what Kubeflow wants to know is written after
the stage has ended.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tumor_cascade.configuration import read_overridden
from tumor_cascade.content import hash_making
from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.stages.interface import SECTIONS

PARAMS_JSON = "--params-json"
NETWORKS = ("classifier", "segmenter")
CONFIG_NAME = "config.json"  # as `network_folder` names it, which would bring torch along
S3_SCHEME = "s3://"
MAKING_VARIABLE = "TUMOR_CASCADE_EXPECTED_MAKING"  # what `hash_making` must give, on tasks of a compiled pipeline

params_json_option = click.option(
    PARAMS_JSON,
    metavar="JSON",
    help="Sections for this stage as a JSON object, in place of --params and --set.",
)
executor_input_option = click.option(
    "--executor-input", metavar="JSON", help="Of a Kubeflow task: its outputs and metrics are reported where it says."
)


class StoredPath(click.Path):
    """A path, or an s3:// URL or nothing, which a path would spoil: an empty one is the folder that one works in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a checked path, or the URL or nothing as it is."""
        is_kept = not str(value) or str(value).startswith(S3_SCHEME)
        return value if is_kept else super().convert(value, param, ctx)


def require_making(stage: str) -> None:
    """Refuse to be other code than a pipeline was compiled from, under whose key the result would be cached.

    Raises:
        ParamsError: Code or lock file of this image are others.
    """
    expected = os.environ.get(MAKING_VARIABLE)
    if expected and expected != hash_making(stage):
        raise ParamsError(
            f"this image holds other code of {stage}, or another lock file, than the checkout that compiled the "
            "pipeline; build the image from that checkout, or compile the pipeline from the image's commit."
        )


def read_values(
    stage: str, params_path: Path, overrides: tuple[str, ...], params_json: str | None
) -> tuple[dict[str, Any], str]:
    """Return a stage's params as plain values, and what to call their source in messages.

    Args:
        stage: Its name.
        params_path: Params file.
        overrides: Of its values.
        params_json: The stage's sections as JSON, in the place of both.

    Raises:
        ParamsError: The file cannot be read, an override is wrong, or the JSON is no object of the stage's sections.
    """
    if params_json is None:
        return read_overridden(params_path, overrides), " ".join([params_path.name, *filter(None, overrides)])
    source = click.get_current_context().get_parameter_source("params_path")
    if any(overrides) or source is ParameterSource.COMMANDLINE:
        raise ParamsError(f"{PARAMS_JSON} comes with --params or --set; give one or the other.")
    try:
        values = json.loads(params_json)
    except ValueError as error:
        raise ParamsError(f"{PARAMS_JSON} is no valid JSON ({error}); quote it as one argument.") from error
    if not isinstance(values, dict) or set(values) - set(SECTIONS[stage]):
        found = ", ".join(values) if isinstance(values, dict) else f"a {type(values).__name__}"
        rule = f"must be an object with nothing but {', '.join(SECTIONS[stage])}"
        raise ParamsError(f"{PARAMS_JSON} holds {found}; {rule}. Correct it.")
    return values, PARAMS_JSON


def unwrap_single(_ctx: click.Context, _option: click.Parameter, value: tuple[Path, ...]) -> Path | tuple[Path, ...]:
    """Return the one path of an option that may be given several times, or all of them."""
    return value[0] if len(value) == 1 else value


@contextmanager
def lay_out_networks(flags: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield flags in which networks given one by one stand in one folder per role, `fold-<k>/<role>`, as links.

    Args:
        flags: Of a stage; `classifier` and `segmenter` are a folder of all folds, one network, or several.

    Raises:
        DataError: A folder is no network, or two are of the same fold.
    """
    with tempfile.TemporaryDirectory() as work:
        laid = dict(flags)
        for role in NETWORKS:
            given = flags.get(role)
            networks = given if isinstance(given, tuple) else (given,) if is_network(given) else ()
            if networks:
                laid[role] = Path(work, role)
                link_networks(role, networks, laid[role])
        yield laid


def is_network(folder: Path | None) -> bool:
    """Say whether a folder is one trained network rather than a folder of folds."""
    return folder is not None and (folder / CONFIG_NAME).is_file()


def link_networks(role: str, networks: tuple[Path, ...], root: Path) -> None:
    """Make `fold-<k>/<role>` links to network folders; arguments and errors as `lay_out_networks`."""
    for network in networks:
        try:
            fold = json.loads((network / CONFIG_NAME).read_text(encoding="utf-8"))["fold"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"--{role} {network}: is no trained network ({type(error).__name__}: {error}); name the folder that "
                f"train_{role} wrote, or one folder of all folds."
            ) from error
        link = root / f"fold-{fold}" / role
        if link.parent.exists():
            raise DataError(f"--{role} {network}: is of fold {fold}, as another one; name one network per fold.")
        link.parent.mkdir(parents=True)
        link.symlink_to(network.absolute(), target_is_directory=True)
