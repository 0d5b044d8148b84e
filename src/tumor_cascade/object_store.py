"""A place of named bytes that several writers share: a folder, or a prefix in an S3 bucket.

Of any number of `put_if_absent` of one key exactly one makes it; `upload` replaces what stands there. Either way a key
has a whole content or none.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.storage import atomic_file, fsync_path

CONNECT_TIMEOUT_S, READ_TIMEOUT_S, NUM_ATTEMPTS = 5, 30, 3
MAX_CONNECTIONS = 32
PIECE_BYTES = 1 << 20
TEMPORARY_PREFIX = "."
# What a folder is asked to do, and what helps where it cannot.
READING, WRITING = ("read", "check the folder and its permissions"), ("written", "the folder must be writable")
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "MLFLOW_S3_ENDPOINT_URL")


class ObjectStore(Protocol):
    """Keys are relative paths with `/`."""

    url: str

    def get(self, key: str) -> bytes | None:
        """Return the bytes of a key, or None where there is none."""
        ...

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Write a key that does not exist yet, durably and as a whole; return whether this call made it."""
        ...

    def download(self, key: str, path: Path) -> bool:
        """Write the bytes of a key to a file, atomically; False, and no file, where there is no such key."""
        ...

    def upload(self, path: Path, key: str) -> None:
        """Write a file to a key, in the place of what stands there."""
        ...

    def remove(self, key: str) -> None:
        """Make a key one that does not exist, whether it did or not."""
        ...

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys that start with a prefix, sorted."""
        return sorted(self.list_sizes(prefix))

    def list_sizes(self, prefix: str) -> dict[str, int]:
        """Return the bytes of each key that starts with a prefix."""
        ...

    def find_size(self, key: str) -> int | None:
        """Return the bytes of a key, or None where there is none."""
        ...

    def stream(self, key: str) -> Iterator[bytes] | None:
        """Return the content of a key piece by piece, or None where there is none."""
        ...


def open_store(url: str, endpoint_url: str | None = None) -> ObjectStore:
    """Return the store at a URL.

    Args:
        url: `s3://bucket/prefix`, a folder, or `file:///folder`.
        endpoint_url: Of an S3 server, where the environment names none.

    Raises:
        ParamsError: Another kind of URL, no bucket, or credentials in it.
    """
    refuse_credentials(url)
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(parts.netloc, parts.path.strip("/"), endpoint_url)
    if parts.scheme == "file" and not parts.netloc:
        return FolderStore(Path(unquote(parts.path)))
    if "://" in url or not url:
        raise ParamsError(f"object store {url!r} is neither a folder nor s3://bucket/prefix; correct it.")
    return FolderStore(Path(url))


def refuse_credentials(*urls: str) -> None:
    """Refuse URLs with a user or password in them: they are kept, passed on and printed.

    Raises:
        ParamsError: Without the URL.
    """
    if any(part.scheme and (part.username or part.password) for part in map(urlsplit, urls)):
        raise ParamsError(
            "the URL holds credentials, and it is kept and passed on; leave them out of it and set AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY in the environment."
        )


class FolderStore(ObjectStore):
    """A folder on a file system that knows hard links, local or shared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.url = str(self.folder)

    def get(self, key: str) -> bytes | None:
        """Return the bytes of a key, or None."""
        path = self.folder / key
        with _explain(path, *READING), contextlib.suppress(FileNotFoundError):
            return path.read_bytes()
        return None

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Write a key that does not exist yet; return whether this call made it.

        The bytes go to a file of their own, created exclusively and flushed; a hard link then gives it its name.
        Linking fails where the name exists, so a name appears once, complete, or not at all.
        """
        path = self.folder / key
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}.{secrets.token_hex(8)}.tmp")
        try:
            with _explain(path, *WRITING):
                path.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("xb") as stream:
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    return False
                fsync_path(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        return True

    def download(self, key: str, path: Path) -> bool:
        """Write the bytes of a key to a file, atomically; False, and no file, where there is no such key."""
        pieces = self.stream(key)
        if pieces is None:
            return False
        with atomic_file(path) as temporary, temporary.open("wb") as stream:
            stream.writelines(pieces)
        return True

    def upload(self, path: Path, key: str) -> None:
        """Write a file to a key, in the place of what stands there."""
        target = self.folder / key
        with _explain(target, *WRITING), atomic_file(target) as temporary:
            shutil.copyfile(path, temporary)

    def remove(self, key: str) -> None:
        """Make a key one that does not exist."""
        path = self.folder / key
        with _explain(path, *WRITING):
            path.unlink(missing_ok=True)

    def list_sizes(self, prefix: str) -> dict[str, int]:
        """Return the bytes of each key that starts with a prefix; what a killed writer left is no key."""
        with _explain(self.folder, *READING):
            files = (path for path in self.folder.rglob("*") if not path.name.startswith(TEMPORARY_PREFIX))
            keys = {path.relative_to(self.folder).as_posix(): path for path in files if path.is_file()}
            return {key: path.stat().st_size for key, path in keys.items() if key.startswith(prefix)}

    def find_size(self, key: str) -> int | None:
        """Return the bytes of a key, or None."""
        path = self.folder / key
        with _explain(path, *READING):
            return path.stat().st_size if path.is_file() else None

    def stream(self, key: str) -> Iterator[bytes] | None:
        """Return the content of a key piece by piece, or None."""
        path = self.folder / key
        with _explain(path, *READING):
            return _read_file(path) if path.is_file() else None


class S3Store(ObjectStore):
    """A prefix in a bucket of a server that honors `If-None-Match: *` (Amazon's, SeaweedFS).

    Credentials and region come from the environment as boto3 reads it; the endpoint from AWS_ENDPOINT_URL_S3 or, as for
    MLflow, MLFLOW_S3_ENDPOINT_URL.
    """

    def __init__(self, bucket: str, prefix: str, endpoint_url: str | None = None) -> None:
        self.bucket, self.prefix = bucket, f"{prefix}/" if prefix else ""
        self.endpoint_url = endpoint_url
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), self.endpoint_url)
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": NUM_ATTEMPTS},
            max_pool_connections=MAX_CONNECTIONS,
        )
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        return boto3.session.Session().client("s3", endpoint_url=endpoint, region_name=region, config=config)

    def get(self, key: str) -> bytes | None:
        """Return the bytes of a key, or None."""
        pieces = self.stream(key)
        return None if pieces is None else b"".join(pieces)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Write a key that does not exist yet; return whether this call made it.

        Where an answer is lost and the request repeated, the second one meets the first one's object: equal content
        counts as made by this call, so contents that must not be mistaken for each other have to differ.
        """
        taken = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
        answer = self._ask("put_object", taken, Key=self.prefix + key, Body=content, IfNoneMatch="*")
        return answer is not None or self.get(key) == content

    def download(self, key: str, path: Path) -> bool:
        """Write the bytes of a key to a file, atomically and in parallel parts; False where there is no such key."""
        with contextlib.suppress(FileNotFoundError), atomic_file(path) as temporary, temporary.open("wb") as stream:
            # Into the file itself: under its name boto3 makes another one beside it, which nothing would sweep.
            if self._ask("download_fileobj", ("NoSuchKey", "404"), Key=self.prefix + key, Fileobj=stream) is None:
                raise FileNotFoundError
            return True
        return False

    def upload(self, path: Path, key: str) -> None:
        """Write a file to a key, in parallel parts, in the place of what stands there."""
        self._ask("upload_file", (), Key=self.prefix + key, Filename=str(path))

    def remove(self, key: str) -> None:
        """Make a key one that does not exist."""
        self._ask("delete_object", (), Key=self.prefix + key)

    def list_sizes(self, prefix: str) -> dict[str, int]:
        """Return the bytes of each key that starts with a prefix."""
        sizes: dict[str, int] = {}
        more: dict[str, str] = {}
        while True:
            page = self._ask("list_objects_v2", (), Prefix=self.prefix + prefix, **more)
            sizes |= {found["Key"].removeprefix(self.prefix): found["Size"] for found in page.get("Contents", [])}
            if not page.get("IsTruncated"):
                return sizes
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def find_size(self, key: str) -> int | None:
        """Return the bytes of a key, or None."""
        answer = self._ask("head_object", ("NoSuchKey", "404"), Key=self.prefix + key)
        return None if answer is None else int(answer["ContentLength"])

    def stream(self, key: str) -> Iterator[bytes] | None:
        """Return the content of a key piece by piece, or None; the connection may still break between two pieces."""
        answer = self._ask("get_object", ("NoSuchKey", "404"), Key=self.prefix + key)
        return None if answer is None else self._read_pieces(answer["Body"])

    def _read_pieces(self, body: Any) -> Iterator[bytes]:
        with contextlib.closing(body), self._explained():
            yield from body.iter_chunks(PIECE_BYTES)

    def _ask(self, operation: str, expected: tuple[str, ...], **arguments: Any) -> Any:
        """Return the server's answer, or None where it is one of the expected errors.

        Raises:
            DataError: The server cannot be reached, or refuses.
        """
        from botocore.exceptions import ClientError

        with self._explained():
            try:
                return getattr(self._client, operation)(Bucket=self.bucket, **arguments) or {}
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") in expected:
                    return None
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what boto3 raises into a sentence.

        Raises:
            DataError: The server cannot be reached, refuses, or breaks off.
        """
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (ClientError, Boto3Error, BotoCoreError) as error:
            raise DataError(
                f"{self.url}: {error}; check that the server runs, the bucket exists, and AWS_ACCESS_KEY_ID, "
                f"AWS_SECRET_ACCESS_KEY and {ENDPOINTS[0]} are right."
            ) from error


@contextlib.contextmanager
def _explain(path: Path, verb: str, remedy: str) -> Iterator[None]:
    """Turn what a file system raises into a sentence.

    Raises:
        DataError: With what cannot be done to the path, and why.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be {verb} ({error.strerror}); {remedy}.") from error


def _read_file(path: Path) -> Iterator[bytes]:
    with _explain(path, *READING), path.open("rb") as stream:
        while piece := stream.read(PIECE_BYTES):
            yield piece
