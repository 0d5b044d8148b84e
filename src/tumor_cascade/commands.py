"""The commands that people use around the stages. What they need is imported when they run: `--help` stays instant."""

from pathlib import Path
from typing import Literal

import click

from tumor_cascade.configuration import PRESETS
from tumor_cascade.errors import ParamsError
from tumor_cascade.params import EvaluateCascadeParams, IngestDataParams, read_section
from tumor_cascade.pod_options import StoredPath, executor_input_option

PARAMS_FILE = click.Path(path_type=Path, dir_okay=False)
EXISTING = click.Path(path_type=Path, exists=True)
EXISTING_DIR = click.Path(path_type=Path, exists=True, file_okay=False)
ANY_PATH = click.Path(path_type=Path)
RESULTS = "docs/results"
RESEARCH_USE = "Research use only: not a medical device, not for diagnosis or treatment."


params_option = click.option(
    "--params", "params_path", type=PARAMS_FILE, default="params.yaml", show_default=True, help="Params file."
)
artifacts_option = click.option(
    "--artifacts", type=EXISTING_DIR, default="artifacts", show_default=True, help="Outputs of `dvc repro`."
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
    for name in summary.patient_like:
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


@click.group(epilog=format_examples("results publish lgg-cpu", "results check"))
def results() -> None:
    """Write result pages of finished runs, and list pages that are out of date."""


@results.command(epilog=format_examples("results publish lgg-cpu", "results publish my-run --preset lgg-cpu"))
@click.argument("name")
@click.option("--preset", type=click.Choice(PRESETS), help="That the run was configured from, unless it is NAME.")
@artifacts_option
@click.option("--out", type=ANY_PATH, default=RESULTS, show_default=True, help="Folder of result pages.")
@click.option(
    "--readme", type=ANY_PATH, help="Its table is redrawn; without it that of README.md, if --out is the default."
)
@params_option
def publish(name: str, preset: str | None, artifacts: Path, out: Path, readme: Path | None, params_path: Path) -> None:
    """Write docs/results/NAME: figures, protocol, hardware, date and content_id of the run in the artifacts folder."""
    from tumor_cascade.results.catalog import redraw_table
    from tumor_cascade.results.run_page import publish_results

    if readme is None and out == Path(RESULTS):
        readme = Path("README.md")
    if preset is None and name not in PRESETS:
        raise click.UsageError(f"{name} is no preset; say which one the run was configured from: --preset NAME.")
    click.echo(f"Written: {publish_results(name, preset or name, artifacts, params_path, out)}")
    if readme is not None:
        redraw_table(readme, out)


@results.command(epilog=format_examples("results study study-cpu", "results study study --artifacts a --artifacts b"))
@click.argument("preset", type=click.Choice(PRESETS), metavar="PRESET")
@click.option(
    "--artifacts",
    type=EXISTING_DIR,
    multiple=True,
    default=["artifacts"],
    show_default=True,
    help="Outputs of `dvc repro`; may be repeated.",
)
@click.option("--out", type=ANY_PATH, default=RESULTS, show_default=True, help="Folder of result pages.")
@params_option
def study(preset: str, artifacts: tuple[Path, ...], out: Path, params_path: Path) -> None:
    """Write docs/results/leaky-study: the study's metrics on runs of its protocol, beside what it prints.

    The first artifacts folder is of a run of PRESET, under slice_level. More of them are averaged by protocol: other
    seeds, and runs by patient to stand beside.
    """
    from tumor_cascade.results.study_page import publish_study

    click.echo(f"Written: {publish_study(preset, artifacts, params_path, out)}")


@results.command(epilog=format_examples("results gate honest-cpu"))
@click.argument("preset", type=click.Choice(PRESETS), metavar="PRESET")
@artifacts_option
@click.option("--out", type=ANY_PATH, default=RESULTS, show_default=True, help="Folder of result pages.")
@params_option
def gate(preset: str, artifacts: Path, out: Path, params_path: Path) -> None:
    """Write docs/results/gate: every way to gate, out-of-fold, on the masks of a run of PRESET."""
    from tumor_cascade.results.gate_page import publish_gate

    click.echo(f"Written: {publish_gate(preset, artifacts, params_path, out)}")


@results.command(epilog=format_examples("results leakage"))
@click.option(
    "--slices", type=EXISTING_DIR, default="artifacts/ingest_data/slices", show_default=True, help="Packed volumes."
)
@click.option(
    "--manifest",
    type=EXISTING,
    default="artifacts/ingest_data/manifest.parquet",
    show_default=True,
    help="Their table.",
)
@click.option("--out", type=ANY_PATH, default=RESULTS, show_default=True, help="Folder of result pages.")
@params_option
def leakage(slices: Path, manifest: Path, out: Path, params_path: Path) -> None:
    """Write docs/results/leakage: the search for leaks in the data, and leaks planted to see who notices.

    Takes minutes: the data are searched again for every kind of leak, on copies in a temporary folder.
    """
    from tumor_cascade.results.leakage_page import publish_leakage

    click.echo(f"Written: {publish_leakage(slices, manifest, params_path, out)}")


@results.command(epilog=format_examples("results check"))
@click.option("--out", type=ANY_PATH, default=RESULTS, show_default=True, help="Folder of result pages.")
def check(out: Path) -> None:
    """List result pages that today's code, lock file or presets would not make; exit 1 if there are any."""
    from tumor_cascade.results.catalog import find_stale_results

    stale = find_stale_results(out)
    for line in stale:
        click.echo(line)
    click.echo(f"Stale pages: {len(stale)}")
    raise SystemExit(1 if stale else 0)


@click.group(epilog=format_examples("ladder run", "ladder run --fold 0", "ladder publish"))
def ladder() -> None:
    """Climb from the study's recipe to the product, one change at a time, judged out-of-fold.

    Rows and changes stand in results/ladder.yaml of the package. A climb can be stopped at any moment and carries on.
    """


@ladder.command(
    name="run",
    epilog=format_examples(
        "ladder run", "ladder run --fold 0 --jobs 8", "ladder run --row larger_input --row imagenet_encoder"
    ),
)
@click.option("--fold", "folds", type=int, multiple=True, help="Of the ladder's folds; all without it.")
@click.option("--row", "names", multiple=True, help="Of ladder.yaml; all but further ones without it.")
@click.option("--further", "has_further", is_flag=True, help="Run further rows too.")
@click.option(
    "--jobs", "num_jobs", type=click.IntRange(1), default=1, show_default=True, help="Trainings at the same time."
)
@artifacts_option
def climb(folds: tuple[int, ...], names: tuple[str, ...], has_further: bool, num_jobs: int, artifacts: Path) -> None:
    """Train the rows on the ladder's folds and judge them; several commands may share the work.

    The data are those of `dvc repro validate_data`, ingested under a preset of real MRI.
    """
    from tumor_cascade.results.ladder import Workplace
    from tumor_cascade.results.ladder import climb as climb_rows
    from tumor_cascade.results.ladder_rows import read_ladder
    from tumor_cascade.side_by_side import CLI, Step, run_steps

    ladder = read_ladder()
    rows = ladder.select(names, has_further=has_further)
    if unknown := set(folds) - {fold for row in rows for fold in row.folds}:
        raise ParamsError(f"--fold {min(unknown)}: must be one of {', '.join(map(str, ladder.folds))}.")
    workplace, wanted = Workplace.open(artifacts), list(folds) or ladder.folds
    if num_jobs > 1:  # what two rows share is trained by the one that comes first; the other waits for it
        words = (*CLI, "ladder", "run", "--artifacts", str(artifacts))
        pairs = [(row.name, str(fold)) for row in rows for fold in wanted if fold in row.folds]
        commands = {f"{name}, fold {fold}": (*words, "--row", name, "--fold", fold) for name, fold in pairs}
        run_steps({"climb": Step(commands)}, num_jobs)
        return
    for row, fold in climb_rows(workplace, rows, wanted):
        click.echo(f"{row.name}, fold {fold}: trained")


@ladder.command(name="publish", epilog=format_examples("ladder publish"))
@artifacts_option
@click.option("--out", type=ANY_PATH, default=RESULTS, show_default=True, help="Folder of result pages.")
def publish_ladder_page(artifacts: Path, out: Path) -> None:
    """Write docs/results/ladder: what each change was worth; rows that have not been run are marked so."""
    from tumor_cascade.results.ladder_page import publish_ladder

    click.echo(f"Written: {publish_ladder(artifacts, out)}")


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


COMMANDS = (configure, phantom, predict, evaluate, serve, remote, results, ladder)
