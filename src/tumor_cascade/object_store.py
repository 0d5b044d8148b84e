"""A place of named bytes that several writers share: a folder, or a prefix in an S3 bucket.

Of any number of `put_if_absent` of one key exactly one makes it; `upload` replaces what stands there. Either way a key
has a whole content or none.
"""

import contextlib
import os
import secrets
import shutil
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from tumor_cascade.errors import DataError, ParamsError
from tumor_cascade.storage import atomic_file, fsync_path

CONNECT_TIMEOUT_S, READ_TIMEOUT_S, NUM_ATTEMPTS = 5, 30, 3
TEMPORARY_PREFIX = "."
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

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys that start with a prefix, sorted."""
        ...


def open_store(url: str) -> ObjectStore:
    """Return the store at a URL.

    Args:
        url: `s3://bucket/prefix`, a folder, or `file:///folder`.

    Raises:
        ParamsError: Another kind of URL, or no bucket.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(parts.netloc, parts.path.strip("/"))
    if parts.scheme == "file" and not parts.netloc:
        return FolderStore(Path(unquote(parts.path)))
    if "://" in url or not url:
        raise ParamsError(f"object store {url!r} is neither a folder nor s3://bucket/prefix; correct it.")
    return FolderStore(Path(url))


class FolderStore:
    """A folder on a file system that knows hard links, local or shared."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.url = str(self.folder)

    def get(self, key: str) -> bytes | None:
        """Return the bytes of a key, or None."""
        try:
            return (self.folder / key).read_bytes()
        except FileNotFoundError:
            return None

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Write a key that does not exist yet; return whether this call made it.

        The bytes go to a file of their own, created exclusively and flushed; a hard link then gives it its name.
        Linking fails where the name exists, so a name appears once, complete, or not at all.
        """
        path = self.folder / key
        temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}.{secrets.token_hex(8)}.tmp")
        try:
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
        except OSError as error:
            raise DataError(f"{path}: cannot be written ({error.strerror}); the folder must be writable.") from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        return True

    def download(self, key: str, path: Path) -> bool:
        """Write the bytes of a key to a file, atomically; False, and no file, where there is no such key."""
        source = self.folder / key
        if not source.is_file():
            return False
        with atomic_file(path) as temporary:
            shutil.copyfile(source, temporary)
        return True

    def upload(self, path: Path, key: str) -> None:
        """Write a file to a key, in the place of what stands there."""
        target = self.folder / key
        try:
            with atomic_file(target) as temporary:
                shutil.copyfile(path, temporary)
        except OSError as error:
            raise DataError(f"{target}: cannot be written ({error.strerror}); the folder must be writable.") from error

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys that start with a prefix, sorted; what a killed writer left is no key."""
        files = (path for path in self.folder.rglob("*") if not path.name.startswith(TEMPORARY_PREFIX))
        keys = (path.relative_to(self.folder).as_posix() for path in files if path.is_file())
        return sorted(key for key in keys if key.startswith(prefix))


class S3Store:
    """A prefix in a bucket of a server that honors `If-None-Match: *` (Amazon's, SeaweedFS).

    Credentials and region come from the environment as boto3 reads it; the endpoint from AWS_ENDPOINT_URL_S3 or, as for
    MLflow, MLFLOW_S3_ENDPOINT_URL.
    """

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket, self.prefix = bucket, f"{prefix}/" if prefix else ""
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        endpoint = next((os.environ[name] for name in ENDPOINTS if os.environ.get(name)), None)
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S, read_timeout=READ_TIMEOUT_S, retries={"total_max_attempts": NUM_ATTEMPTS}
        )
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        return boto3.session.Session().client("s3", endpoint_url=endpoint, region_name=region, config=config)

    def get(self, key: str) -> bytes | None:
        """Return the bytes of a key, or None."""
        answer = self._ask("get_object", ("NoSuchKey", "404"), Key=self.prefix + key)
        return None if answer is None else bytes(answer["Body"])

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
        with contextlib.suppress(FileNotFoundError), atomic_file(path) as temporary:
            if self._ask("download_file", ("NoSuchKey", "404"), Key=self.prefix + key, Filename=str(temporary)) is None:
                raise FileNotFoundError
            return True
        return False

    def upload(self, path: Path, key: str) -> None:
        """Write a file to a key, in parallel parts, in the place of what stands there."""
        self._ask("upload_file", (), Key=self.prefix + key, Filename=str(path))

    def list_keys(self, prefix: str) -> list[str]:
        """Return the keys that start with a prefix, sorted."""
        keys: list[str] = []
        more: dict[str, str] = {}
        while True:
            page = self._ask("list_objects_v2", (), Prefix=self.prefix + prefix, **more)
            keys += [found["Key"].removeprefix(self.prefix) for found in page.get("Contents", [])]
            if not page.get("IsTruncated"):
                return sorted(keys)
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _ask(self, operation: str, expected: tuple[str, ...], **arguments: Any) -> Any:
        """Return the server's answer, or None where it is one of the expected errors.

        Raises:
            DataError: The server cannot be reached, or refuses.
        """
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = getattr(self._client, operation)(Bucket=self.bucket, **arguments) or {}
            return {**answer, "Body": answer["Body"].read()} if "Body" in answer else answer
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in expected:
                return None
            reason = str(error)
        except (Boto3Error, BotoCoreError) as error:
            reason = str(error)
        raise DataError(
            f"{self.url}: {reason}; check that the server runs, the bucket exists, and AWS_ACCESS_KEY_ID, "
            f"AWS_SECRET_ACCESS_KEY and {ENDPOINTS[0]} are right."
        )
