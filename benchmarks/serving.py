"""What a request costs by the way it is encoded, and what batching slices of concurrent requests is worth.

    python benchmarks/serving.py --cascade artifacts/assemble_cascade/cascade --rows 32 --clients 8

Prints bytes and seconds from a body to pixels for base64 (PNG, NPY), Parquet and, for scale, pixels as JSON numbers,
which the server refuses; then slices per second of concurrent clients that send one slice at a time, with and without
micro-batching. One run, one machine: quote the ratios.
"""

import argparse
import base64
import io
import json
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from tumor_cascade.data.phantom import generate_patient
from tumor_cascade.params import PhantomParams
from tumor_cascade.product import load_cascade
from tumor_cascade.serving.answers import Identity
from tumor_cascade.serving.engine import Engine
from tumor_cascade.serving.limits import Limits
from tumor_cascade.serving.parquet import ParquetReader
from tumor_cascade.serving.payloads import read_json
from tumor_cascade.serving.rows import read_rows
from tumor_cascade.serving.volumes import decode_rows

PHANTOM = PhantomParams(num_patients=4, num_slices=48, image_size_px=256, seed=1)
LIMITS = Limits()


def time_calls(call: Callable[[], Any], num: int) -> float:
    """Return the median seconds of a call, after one that does not count."""
    call()
    times = []
    for _ in range(num):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def make_images(num_rows: int) -> list[NDArray[np.uint8]]:
    """Return made-up slices `(256, 256, 3)`."""
    slices = [one.image.transpose(1, 2, 0) for one in generate_patient(PHANTOM, 1).slices]
    return [np.ascontiguousarray(slices[number % len(slices)]) for number in range(num_rows)]


def encode(image: NDArray[np.uint8], kind: str) -> str:
    """Return base64 of a PNG or NPY file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG") if kind == "PNG" else np.save(stream, image)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def compare_encodings(num_rows: int, num: int) -> None:
    """Print what it takes to get from a body to pixels."""
    images, decoders = make_images(num_rows), ThreadPoolExecutor(LIMITS.num_decoders)
    read_parquet = ParquetReader(LIMITS.max_rows, 2**30)

    def decode(records: object) -> None:
        decode_rows(read_rows(records, LIMITS.max_rows), LIMITS, decoders)

    cases: dict[str, tuple[bytes, Callable[[bytes], object]]] = {}
    for kind in ("PNG", "NPY"):
        rows = [{"image": encode(image, kind)} for image in images]
        cases[f"JSON, base64 of {kind}"] = (
            json.dumps({"dataframe_records": rows}).encode(),
            lambda body: decode(read_json(body)[0]),
        )
        cases[f"Parquet, base64 of {kind}"] = (
            pd.DataFrame(rows).to_parquet(compression=None),
            lambda body: decode(read_parquet(body)),
        )
    pixels = json.dumps({"instances": np.stack(images).tolist()}).encode()
    cases["JSON, pixels as numbers"] = (pixels, lambda body: np.array(json.loads(body)["instances"], dtype=np.uint8))
    first = None
    print(f"{num_rows} slices of 256 x 256\n{'request':<28} {'MB':>7} {'s':>8} {'ratio':>7}")
    for name, (body, read) in cases.items():
        seconds = time_calls(lambda body=body, read=read: read(body), 1 if "pixels" in name else num)
        first = first or seconds
        print(f"{name:<28} {len(body) / 2**20:7.1f} {seconds:8.3f} {seconds / first:7.1f}")
    read_parquet.close()
    decoders.shutdown()


def measure_throughput(engine: Engine, rows: list[dict[str, Any]], num_clients: int, seconds: float) -> float:
    """Return slices per second of clients that each send one slice after another."""
    counts, deadline = [0] * num_clients, time.monotonic() + seconds

    def ask(client: int) -> None:
        while time.monotonic() < deadline:
            engine.answer([rows[(client + counts[client]) % len(rows)]], {"mask": "none"})
            counts[client] += 1

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(num_clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - started)


def compare_batching(cascade: Path, num_rows: int, num_clients: int, seconds: float) -> None:
    """Print throughput with and without micro-batching."""
    rows = [{"image": encode(image, "PNG")} for image in make_images(num_rows)]
    print(
        f"\nclients that send one slice at a time, slices per second\n"
        f"{'clients':<10} {'alone':>8} {'batched':>8} {'ratio':>7}"
    )
    for number in sorted({1, num_clients}):
        found = []
        for limits in (replace(LIMITS, max_batch_slices=1, window_s=0.0), LIMITS):
            engine = Engine(load_cascade(cascade), Identity("benchmark"), limits)
            found.append(measure_throughput(engine, rows, number, seconds))
            engine.close()
        print(f"{number:<10} {found[0]:8.1f} {found[1]:8.1f} {found[1] / found[0]:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cascade", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    compare_encodings(arguments.rows, arguments.repeats)
    compare_batching(arguments.cascade, arguments.rows, arguments.clients, arguments.seconds)


if __name__ == "__main__":
    main()
