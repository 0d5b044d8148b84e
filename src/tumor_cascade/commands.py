"""The commands that people use around the stages. What they need is imported when they run: `--help` stays instant."""

from pathlib import Path
from typing import Literal

import click

from tumor_cascade import RESEARCH_USE
from tumor_cascade.configuration import PRESETS
from tumor_cascade.params import EvaluateCascadeParams, IngestDataParams, read_section
from tumor_cascade.pod_options import StoredPath, executor_input_option

PARAMS_FILE = click.Path(path_type=Path, dir_okay=False)
EXISTING = click.Path(path_type=Path, exists=True)
EXISTING_DIR = click.Path(path_type=Path, exists=True, file_okay=False)
ANY_PATH = click.Path(path_type=Path)


params_option = click.option(
    "--params", "params_path", type=PARAMS_FILE, default="params.yaml", show_default=True, help="Params file."
)
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override values of the params file; several separated by spaces.",
)
model_option = click.option(
    "--model", help="A registered version in its place, as MLflow names it; its files are checked."
)
overwrite_option = click.option("--overwrite", "is_overwrite", is_flag=True, help="Replace earlier output in --out.")


def format_examples(*lines: str) -> str:
    """Return an epilog that click does not rewrap."""
    return "\b\nExamples:\n" + "\n".join(f"  tumor-cascade {line}" for line in lines)


def warn(text: str) -> None:
    """Print a notice apart from results."""
    click.secho(text, err=True, fg="yellow")


@click.command(
    epilog=f"Presets: {', '.join(PRESETS)}.\n\n"
    + format_examples("configure smoke", "configure lgg-cpu --set train_segmenter.fn_weight=0.8")
)
@click.argument("preset", type=click.Choice(PRESETS), metavar="PRESET")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one value; may be repeated.")
@params_option
def configure(preset: str, overrides: tuple[str, ...], params_path: Path) -> None:
    """Write params.yaml from a preset and print what changed."""
    from tumor_cascade.configuration import configure as write_params

    changes = write_params(preset, params_path, overrides)
    for change in changes:
        click.echo(change)
    click.echo(f"{params_path}: preset {preset}" + ("" if changes else ", unchanged"))


@click.command(
    short_help="Write the generated patients as an archive of TIFF files.",
    epilog=format_examples("phantom data/phantom", "phantom data/phantom --params my-params.yaml"),
)
@click.argument("out", type=ANY_PATH)
@params_option
def phantom(out: Path, params_path: Path) -> None:
    """Write the generated patients of ingest_data.phantom as an archive of TIFF files to OUT."""
    from tumor_cascade.data.phantom import write_archive
    from tumor_cascade.out_folder import check_out_folder

    section = read_section(params_path, "ingest_data")
    assert isinstance(section, IngestDataParams)
    check_out_folder(out, [])
    write_archive(section.phantom, out)
    click.echo(f"Patients: {section.phantom.num_patients}, in {out / 'kaggle_3m'}")


@click.command(
    short_help="Find tumors in an image, a folder, a patient or an archive.",
    epilog=format_examples(
        "predict slice.png",
        "predict data/raw/kaggle_3m/TCGA_CS_4941_19960909",
        "predict archive.zip --out runs/archive --overwrite",
        "predict s3://bucket/patients --model models:/tumor-cascade@champion --out s3://bucket/predictions",
    ),
)
@click.argument("source", type=StoredPath(path_type=Path, exists=True))
@click.option(
    "--cascade",
    type=ANY_PATH,
    default="artifacts/assemble_cascade/cascade",
    show_default=True,
    help="Packed cascade, as `dvc repro` makes it.",
)
@model_option
@click.option(
    "--out",
    type=StoredPath(path_type=Path),
    default="predictions",
    show_default=True,
    help="Output folder, or s3://bucket/prefix.",
)
@click.option("--out-metrics", type=ANY_PATH, help="JSON file of counts, for pipelines.")
@overwrite_option
@executor_input_option
def predict(
    source: Path | str,
    cascade: Path,
    model: str | None,
    out: Path | str,
    out_metrics: Path | None,
    is_overwrite: bool,
    executor_input: str | None,
) -> None:
    """Find tumors in SOURCE: an image, a folder of images, a patient's folder, or an archive of patients.

    SOURCE may also be s3://bucket/prefix.

    Images are RGB TIFF or PNG: pre-contrast, FLAIR, post-contrast. Slices named <patient>/<patient>_<number>.tif are
    read together as one volume; any other image stands for itself, and its answer says that context was missing.

    The output folder holds predictions.jsonl (a line per slice: probability, decision, area, uncertainty, or what is
    wrong with the file), masks/ (0 and 255, the image's size) and overlays/ (for people).
    """
    from tumor_cascade.data.raw_file import show
    from tumor_cascade.executor_output import write_executor_output
    from tumor_cascade.prediction import LINES_NAME
    from tumor_cascade.stored_prediction import predict_stored, write_counts

    if model is None and not cascade.is_dir():
        raise click.BadParameter(f"Directory '{cascade}' does not exist.", param_hint="'--cascade'")
    summary = predict_stored(source, cascade, model, out, is_overwrite=is_overwrite)
    if out_metrics is not None:
        write_counts(summary, out_metrics)
    write_executor_output("predict", executor_input, {"out_metrics": out_metrics})
    for error in summary.errors:
        warn(f"Not predicted: {error}")
    if summary.num_without_context:
        warn(f"Read without the other slices of their patient: {summary.num_without_context}.")
    for name in map(show, summary.patient_like):
        warn(f"Images {name}_<number> look like one patient's; in a folder named {name} they are read together.")
    click.echo(
        f"Slices: {summary.num_slices}, called positive: {summary.num_positive}, patients: {summary.num_patients}, "
        f"errors: {len(summary.errors)}. See {out}/{LINES_NAME}"
    )
    click.echo(RESEARCH_USE)


@click.command(
    short_help="Evaluate a cascade on all patients of another folder.",
    epilog=format_examples("evaluate artifacts/assemble_cascade/cascade --data new-patients --out runs/new-patients"),
)
@click.argument("cascade", type=EXISTING_DIR)
@click.option("--data", type=EXISTING, required=True, help="Folder or zip of patients with masks.")
@click.option("--out", type=ANY_PATH, required=True, help="Output folder: report/ and metrics.json.")
@click.option(
    "--layout",
    type=click.Choice(["kaggle", "images"]),
    default="kaggle",
    show_default=True,
    help="kaggle: <patient>/<patient>_<number>.tif and ..._mask.tif; images: a flat folder without patient ids.",
)
@params_option
@click.option("--new-only", "has_only_new", is_flag=True, help="Leave out patients that the cascade knows.")
@overwrite_option
def evaluate(
    cascade: Path,
    data: Path,
    out: Path,
    layout: Literal["kaggle", "images"],
    params_path: Path,
    has_only_new: bool,
    is_overwrite: bool,
) -> None:
    """Evaluate CASCADE on all patients of another folder, with the report and metrics of evaluate_cascade.

    Patients that the cascade has been trained or validated on, by the names of their folders, are listed in
    known_patients.csv and make the report a leaky one.
    """
    from tumor_cascade.external_evaluation import KNOWN_NAME, METRICS_NAME, evaluate_folder

    ingest_params, params = (read_section(params_path, stage) for stage in ("ingest_data", "evaluate_cascade"))
    assert isinstance(ingest_params, IngestDataParams)
    assert isinstance(params, EvaluateCascadeParams)
    acquaintance = evaluate_folder(
        cascade, data, out, ingest_params, params, layout=layout, is_overwrite=is_overwrite, has_only_new=has_only_new
    )
    if acquaintance.protocol != "external":
        warn(f"Protocol: {acquaintance.protocol}.")
    if acquaintance.known:
        warn(f"Known patients: {out / KNOWN_NAME}; --new-only leaves them out.")
    if acquaintance.is_leaky:
        warn("The report is marked leaky: its numbers do not tell of new patients.")
    click.echo(f"Patients: {acquaintance.num_patients}. See {out / 'report' / 'report.html'} and {out / METRICS_NAME}")
    click.echo(RESEARCH_USE)


@click.command(
    short_help="Name the folder or bucket that `dvc push` and `dvc pull` use.",
    epilog=format_examples(
        "remote /mnt/results", "remote s3://bucket/tumor-cascade --endpoint-url https://s3.example.org"
    ),
)
@click.argument("url")
@click.option("--endpoint-url", help="Of an S3 server other than Amazon's.")
def remote(url: str, endpoint_url: str | None) -> None:
    """Make URL, a folder or s3://bucket/path, the default DVC remote in .dvc/config.

    Credentials stay in the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.
    """
    from tumor_cascade.remote import configure_remote

    configure_remote(url, endpoint_url)
    click.echo(f"{url}: remote of dvc push and dvc pull")


@click.command(
    short_help="Answer predictions over HTTP, with a page for people.",
    epilog=format_examples("serve", "serve --port 9000", "serve --model models:/tumor-cascade@champion"),
)
@click.option(
    "--cascade",
    type=ANY_PATH,
    default="artifacts/assemble_cascade/cascade",
    show_default=True,
    help="Packed cascade, as `dvc repro` makes it.",
)
@model_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True, help="To listen on.")
@click.option("--max-body-mb", type=click.IntRange(1, 256), default=16, show_default=True, help="Of a request.")
@click.option(
    "--max-requests", type=click.IntRange(1, 256), default=8, show_default=True, help="Answered at the same time."
)
def serve(cascade: Path, model: str | None, host: str, port: int, max_body_mb: int, max_requests: int) -> None:
    """Serve a cascade: POST /invocations as MLflow's server has it, and a page at /.

    Also /livez, /readyz, /metrics for Prometheus, /model. There is neither encryption nor a login: other machines are
    to reach it through a proxy that has both.
    """
    from tumor_cascade.serving.server import open_folder
    from tumor_cascade.serving.server import serve as serve_forever

    if host not in ("127.0.0.1", "localhost", "::1"):
        warn(f"Other machines may reach {host}:{port} without a login; put a proxy in front of it.")
    if model is None:
        load = open_folder(cascade)
    else:
        from tumor_cascade.registry.served_version import open_version

        load = open_version(model)
    click.echo(f"http://{host}:{port}/\n{RESEARCH_USE}")
    serve_forever(load, host, port, max_body_mb * 2**20, max_requests)


COMMANDS = (configure, phantom, predict, evaluate, serve, remote)
