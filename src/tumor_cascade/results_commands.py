"""`tumor-cascade results` and `ladder`: pages on what runs have found. What they need is imported when they run."""

from pathlib import Path

import click

from tumor_cascade.commands import ANY_PATH, EXISTING, EXISTING_DIR, format_examples, params_option
from tumor_cascade.configuration import PRESETS
from tumor_cascade.errors import ParamsError

RESULTS = "docs/results"

artifacts_option = click.option(
    "--artifacts", type=EXISTING_DIR, default="artifacts", show_default=True, help="Outputs of `dvc repro`."
)
trained_on_option = click.option(
    "--trained-on", metavar="HARDWARE", help="Named on the page, for networks that were trained on another machine."
)


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
@trained_on_option
@params_option
def publish(
    name: str,
    preset: str | None,
    artifacts: Path,
    out: Path,
    readme: Path | None,
    trained_on: str | None,
    params_path: Path,
) -> None:
    """Write docs/results/NAME: figures, protocol, hardware, date and content_id of the run in the artifacts folder."""
    from tumor_cascade.results.catalog import redraw_table
    from tumor_cascade.results.run_page import publish_results

    if readme is None and out == Path(RESULTS):
        readme = Path("README.md")
    if preset is None and name not in PRESETS:
        raise click.UsageError(f"{name} is no preset; say which one the run was configured from: --preset NAME.")
    click.echo(f"Written: {publish_results(name, preset or name, artifacts, params_path, out, trained_on)}")
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
@trained_on_option
@params_option
def study(preset: str, artifacts: tuple[Path, ...], out: Path, trained_on: str | None, params_path: Path) -> None:
    """Write docs/results/leaky-study: the study's metrics on runs of its protocol, beside what it prints.

    Of another recipe's PRESET, configured with --set split_data.protocol=slice_level and --set
    evaluate_cascade.partition=test, the page is docs/results/leaky-PRESET.

    The first artifacts folder is of a run of PRESET, under slice_level. More of them are averaged by protocol: other
    seeds, and runs by patient to stand beside.
    """
    from tumor_cascade.results.study_page import publish_study

    click.echo(f"Written: {publish_study(preset, artifacts, params_path, out, trained_on)}")


@results.command(epilog=format_examples("results gate honest-cpu"))
@click.argument("preset", type=click.Choice(PRESETS), metavar="PRESET")
@artifacts_option
@click.option("--out", type=ANY_PATH, default=RESULTS, show_default=True, help="Folder of result pages.")
@trained_on_option
@params_option
def gate(preset: str, artifacts: Path, out: Path, trained_on: str | None, params_path: Path) -> None:
    """Write docs/results/gate: every way to gate, out-of-fold, on the masks of a run of PRESET."""
    from tumor_cascade.results.gate_page import publish_gate

    click.echo(f"Written: {publish_gate(preset, artifacts, params_path, out, trained_on)}")


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


@results.command(epilog=format_examples("results redraw"))
@click.option("--out", type=EXISTING_DIR, default=RESULTS, show_default=True, help="Folder of result pages.")
def redraw(out: Path) -> None:
    """Draw pages of runs, gate and study again, naming what is other than today's presets.

    For runs whose artifacts are elsewhere, after a preset has moved on. Nothing that was measured changes. The table of
    README.md is drawn too, if --out is the default.
    """
    from tumor_cascade.results.catalog import redraw_table
    from tumor_cascade.results.redraw import redraw_pages

    for page in redraw_pages(out):
        click.echo(f"Drawn: {page}")
    if out == Path(RESULTS):
        redraw_table(Path("README.md"), out)


@results.command(epilog=format_examples("results check"))
@click.option("--out", type=EXISTING_DIR, default=RESULTS, show_default=True, help="Folder of result pages.")
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


RESULTS_COMMANDS = (results, ladder)
