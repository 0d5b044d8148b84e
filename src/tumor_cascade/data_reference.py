"""A reference to packed slices and their manifest in an object store: a small file that travels in place of pixels.

It names content, not places in a repository: whoever holds it fetches exactly these bytes or none.
"""

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tumor_cascade.errors import DataError
from tumor_cascade.storage import write_json

LAYOUT: Literal["dvc-md5"] = "dvc-md5"
MAX_REFERENCE_BYTES = 1 << 16
Md5 = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ManifestReference(BaseModel):
    """The manifest: the MD5 names its object, the SHA-256 is what later stages know it by."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    md5: Md5
    sha256: Sha256


class DataReference(BaseModel):
    """Packed slices in a store.

    Attributes:
        store: `s3://bucket/prefix` or a folder; credentials and endpoint come from the environment.
        layout: How objects are named in it: as `dvc push` names them.
        directory: MD5 of DVC's directory object, which lists each file's MD5 and relative path.
        num_files: In the directory.
        num_bytes: Of these files.
        manifest: The table that goes with them.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    store: Annotated[str, Field(min_length=1)]
    layout: Literal["dvc-md5"]
    directory: Md5
    num_files: Annotated[int, Field(ge=1)]
    num_bytes: Annotated[int, Field(ge=0)]
    manifest: ManifestReference

    @field_validator("store")
    @classmethod
    def _refuse_credentials(cls, store: str) -> str:
        if urlsplit(store).username or urlsplit(store).password:
            raise ValueError("holds credentials; a reference is passed around, so they belong into the environment")
        return store


def parse_reference(text: str | bytes, where: str) -> DataReference:
    """Return the reference in a JSON text.

    Args:
        text: A JSON object.
        where: What the text is, for messages.

    Raises:
        DataError: With everything that is wrong with it.
    """
    try:
        return DataReference.model_validate_json(text)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, one['loc'])) or 'JSON'}: {one['msg']}" for one in error.errors()]
        raise DataError(faults, f"{where} is no data reference, as `tumor-cascade data reference` prints it:") from None


def read_reference(path: Path) -> DataReference:
    """Return the reference in a file.

    Raises:
        DataError: It cannot be read, is too large for a reference, or holds something else.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_REFERENCE_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); name a data reference or a folder.") from error
    if len(content) > MAX_REFERENCE_BYTES:
        raise DataError(f"{path}: has more than {MAX_REFERENCE_BYTES} bytes, so it is no data reference.")
    return parse_reference(content, str(path))


def write_reference(reference: DataReference, path: Path) -> None:
    """Write a reference, atomically."""
    write_json(path, reference.model_dump(mode="json"))


def name_object(md5: str, *, is_directory: bool = False) -> str:
    """Return the key under which DVC keeps the content of an MD5."""
    return f"files/md5/{md5[:2]}/{md5[2:]}{'.dir' if is_directory else ''}"
