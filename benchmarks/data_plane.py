"""How long a pod waits for its data: our fetch, cold and cached, against `git clone` and `dvc pull`.

    python benchmarks/data_plane.py --objects 8000 --bytes 30000

Starts an S3 server (SeaweedFS, from the development packages), lets DVC push that many objects to it, and times each
way to have them as files of a folder, process start included. One run, one machine: quote the ratios. Server and client
share the processor cores and the disk, and nothing crosses a network.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from object_server import BUCKET, CREDENTIALS, serve_objects  # noqa: E402

SLICES, MANIFEST = "artifacts/ingest_data/slices", "artifacts/ingest_data/manifest.parquet"
MAKE_DATA = f"""
import random, sys
from pathlib import Path
draw, folder = random.Random(1), Path("{SLICES}")
folder.mkdir(parents=True)
for number in range(int(sys.argv[1])):
    (folder / f"{{number:05}}.npy").write_bytes(draw.randbytes(int(sys.argv[2])))
Path("{MANIFEST}").write_bytes(draw.randbytes(350_000))
"""
FETCH = """
import sys
from pathlib import Path
from tumor_cascade.data_plane.cache import fetch
from tumor_cascade.data_reference import read_reference
from tumor_cascade.object_store import open_store
reference = read_reference(Path(sys.argv[1]))
print(fetch(reference, open_store(reference.store), Path(sys.argv[2])).describe())
"""


def run(folder: Path, *command: str) -> str:
    """Run a command; return what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def make_repository(folder: Path, num_objects: int, num_bytes: int) -> None:
    """Make a repository whose data DVC has pushed."""
    folder.mkdir()
    (folder / "make.py").write_text(MAKE_DATA)
    (folder / "dvc.yaml").write_text(
        f"stages:\n  ingest_data:\n    cmd: {sys.executable} make.py {num_objects} {num_bytes}\n"
        f"    outs: [{SLICES}, {MANIFEST}]\n"
    )
    run(folder, "git", "init", "--quiet")
    run(folder, "dvc", "init", "--quiet")
    run(folder, "dvc", "config", "core.analytics", "false")
    run(folder, "tumor-cascade", "remote", f"s3://{BUCKET}/data", "--endpoint-url", os.environ["AWS_ENDPOINT_URL_S3"])
    run(folder, "dvc", "repro", "--quiet")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message", "Data")


def measure(name: str, folder: Path, *commands: tuple[str, ...]) -> tuple[float, str]:
    """Time commands that run one after the other."""
    started = time.perf_counter()
    printed = [run(folder, *command) for command in commands]
    seconds = time.perf_counter() - started
    print(f"{name:<28}{seconds:8.1f} s   {printed[-1].strip().splitlines()[-1] if printed[-1].strip() else ''}")
    return seconds, printed[-1]


def count_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=8000)
    parser.add_argument("--bytes", type=int, default=30_000, help="of each object")
    parser.add_argument("--folder", help="where temporary files go")
    options = parser.parse_args()
    who = {f"GIT_{who}_{what}": "benchmark" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ.update({**CREDENTIALS, **who, "PATH": path, "DVC_NO_ANALYTICS": "1"})
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {platform.machine()}, load before {load}")
    print(f"{options.objects} objects of {options.bytes} bytes")
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        work = Path(scratch)
        (work / "server").mkdir()
        with serve_objects(work / "server") as url:
            os.environ["AWS_ENDPOINT_URL_S3"] = url
            origin, clone, cache = work / "origin", work / "clone", work / "cache"
            make_repository(origin, options.objects, options.bytes)
            measure("dvc push", origin, ("dvc", "push"))
            measure("data verify", origin, ("tumor-cascade", "data", "verify"))
            (work / "slices.json").write_text(run(origin, "tumor-cascade", "data", "reference"))
            fetch = (sys.executable, "-c", FETCH, str(work / "slices.json"), str(cache))
            cold, _ = measure("fetch, cold", work, fetch)
            cached, _ = measure("fetch, cached", work, fetch)
            pull, _ = measure(
                "git clone + dvc pull",
                work,
                ("git", "clone", "--quiet", "origin", "clone"),
                ("dvc", "--cd", "clone", "pull"),
            )
            pulled_again, _ = measure("dvc pull, again", clone, ("dvc", "pull"))
            for name, folder in (("cache", cache / "files"), ("clone", clone / ".dvc/cache")):
                print(f"{name}: {count_bytes(folder):,} bytes in objects")
            same = run(work, "diff", "-rq", str(clone / SLICES), str(next((cache / "slices").iterdir()))) == ""
            print(f"both folders hold the same bytes: {same}")
            print(f"clone + pull / fetch, cold:  {pull / cold:.2f}")
            print(f"pull, again / fetch, cached: {pulled_again / cached:.2f}")


if __name__ == "__main__":
    main()
