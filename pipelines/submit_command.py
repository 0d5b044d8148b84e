"""The command `tumor-cascade-pipeline submit`."""

from pathlib import Path

import click

from tumor_cascade.errors import ParamsError

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command(
    epilog="Exit codes: 0 the run succeeded, 1 it failed or was stopped, 2 wrong flags, 5 the server cannot be asked."
)
@click.argument("package", type=FILE)
@click.option("--host", help="URL of the server.  [default: KF_PIPELINES_ENDPOINT, else the cluster of kubectl]")
@click.option("--namespace", help="Of a multi-user Kubeflow.")
@click.option("--ca-cert", type=FILE, help="Certificates of a server with its own authority.")
@click.option("--experiment", default="tumor-cascade", show_default=True, help="Under which runs are listed.")
@click.option("--argument", "arguments", multiple=True, metavar="NAME=VALUE", help="Of the pipeline; may be repeated.")
@click.option("--service-account", help="Of the pods.  [default: the server's]")
@click.option("--pipeline-root", help="Where artifacts go, e.g. s3://bucket/prefix.  [default: the server's]")
@click.option("--new", "is_new", is_flag=True, help="Make a run even if these bytes have been run before.")
@click.option("--detach", is_flag=True, help="Do not wait for the end.")
@click.option("--poll-s", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, help="Between questions.")
def submit(
    package: Path,
    host: str | None,
    namespace: str | None,
    ca_cert: Path | None,
    experiment: str,
    arguments: tuple[str, ...],
    service_account: str | None,
    pipeline_root: str | None,
    is_new: bool,
    detach: bool,
    poll_s: float,
) -> None:
    """Run PACKAGE, a compiled pipeline, on a cluster and follow it to the end.

    The same file with the same arguments is run once: a second call follows the run of the first, unless that one has
    failed. A token for the server is read from TUMOR_CASCADE_KFP_TOKEN.
    """
    from pipelines.server import PipelineServer
    from pipelines.submission import Submission, follow, read_package
    from pipelines.submission import submit as submit_package

    pairs = [argument.partition("=") for argument in arguments]
    if unnamed := [name for name, equals, _ in pairs if not equals]:
        raise ParamsError(f"--argument {', '.join(unnamed)}: must read NAME=VALUE.")
    submission = Submission(
        package=package,
        experiment=experiment,
        arguments={name: value for name, _, value in pairs},
        service_account=service_account,
        pipeline_root=pipeline_root,
        is_new=is_new,
    )
    facts = read_package(package, submission.arguments)
    server = PipelineServer(host, namespace, ca_cert)
    run = submit_package(server, submission, facts, click.echo)
    if not detach:
        follow(server, run, facts.num_tasks, click.echo, poll_s)
