"""Parquet files, read in a process of its own.

A file of a kilobyte can ask for gigabytes, and what it declares of itself need not be true. So it is read where memory
is bounded and nobody else is hurt; a reader that dies or takes too long is replaced. What comes back is JSON.
"""

import json
import multiprocessing
import resource
import threading
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tumor_cascade.serving.rows import RequestError
from tumor_cascade.serving.tables import to_plain_records

MAX_READER_BYTES = 512 * 2**20  # beside what the libraries take
MAX_COLUMNS = 16
START_TIMEOUT_S, READ_TIMEOUT_S = 60.0, 10.0
UNREADABLE = (
    "the body is no Parquet file that can be read within bounds; write it with pandas or pyarrow, uncompressed."
)


class ParquetReader:
    """Reads one file at a time.

    Args:
        max_rows: A file with more is refused unread.
        max_bytes: Of all values together.
    """

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self._bounds = (max_rows, max_bytes)
        self._lock = threading.Lock()
        self._reader: tuple[BaseProcess, Connection] | None = None

    def __call__(self, body: bytes) -> list[dict[str, Any]]:
        """Return the records of a Parquet file.

        Raises:
            RequestError: It is damaged or too large.
        """
        with self._lock:
            try:
                answer = self._ask(body)
            except (EOFError, OSError) as error:
                self._stop()
                raise RequestError(UNREADABLE) from error
        if isinstance(answer, str):
            raise RequestError(answer)
        return to_plain_records(answer["columns"], answer["rows"])

    def close(self) -> None:
        """Stop the process."""
        with self._lock:
            self._stop()

    def _ask(self, body: bytes) -> Any:
        """Return what the process says.

        Raises:
            OSError: It died, or took too long.
        """
        if self._reader is None:
            self._reader = start_reader(*self._bounds)
        _, connection = self._reader
        connection.send_bytes(body)
        if not connection.poll(READ_TIMEOUT_S):
            raise TimeoutError
        return json.loads(connection.recv_bytes())

    def _stop(self) -> None:
        if self._reader is not None:
            process, connection = self._reader
            process.kill()
            process.join()
            connection.close()
        self._reader = None


def start_reader(max_rows: int, max_bytes: int) -> tuple[BaseProcess, Connection]:
    """Return a process that reads files, ready, and the connection to it.

    Raises:
        OSError: It does not start.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve_files, args=(theirs, max_rows, max_bytes), daemon=True, name="parquet")
    process.start()
    theirs.close()
    if not ours.poll(START_TIMEOUT_S):
        process.kill()
        raise TimeoutError
    ours.recv_bytes()
    return process, ours


def serve_files(connection: Connection, max_rows: int, max_bytes: int) -> None:
    """Read files until the other side is gone; what the process runs."""
    import pyarrow.parquet  # noqa: F401 - before memory is bounded

    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        limit = pages * resource.getpagesize() + MAX_READER_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send_bytes(b"ready")
    while True:
        try:
            body = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(json.dumps(read_file(body, max_rows, max_bytes)).encode())


def read_file(body: bytes, max_rows: int, max_bytes: int) -> dict[str, Any] | str:
    """Return the columns and rows of a Parquet file of text and numbers, or what is wrong with it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(body), memory_map=False)
        metadata = file.metadata
        if not 1 <= metadata.num_rows <= max_rows:
            return (
                f"the file has {metadata.num_rows} rows; from 1 to {max_rows} are answered in time. Send the others in "
                "requests of their own, the slices of one volume together."
            )
        if metadata.num_columns > MAX_COLUMNS:
            return f"the file has {metadata.num_columns} columns; drop those that are not asked for."
        columns = file.schema_arrow.names
        rows: list[list[Any]] = []
        num_bytes = 0
        for batch in file.iter_batches(batch_size=1, use_threads=False):
            values = [column[0].as_py() for column in batch.columns]
            if not all(isinstance(value, str | int | float | None) for value in values):
                return "the file holds other values than text and numbers; images are base64, in a column of text."
            num_bytes += sum(len(value) for value in values if isinstance(value, str))
            if num_bytes > max_bytes:
                return f"the file holds over {max_bytes} bytes of values; send fewer rows at a time."
            rows.append(values)
    except Exception:  # a parser of hostile bytes may raise anything
        return UNREADABLE
    return {"columns": columns, "rows": rows}
