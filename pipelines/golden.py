"""`python -m pipelines.golden`: compiles the pipelines under `compiled/`, which are read in reviews and held by a test.

Image and data are made up. Cache keys and hashes of code are numbered instead: they change with every edit of a stage.
"""

import re
import tempfile
from pathlib import Path

from pipelines.catalog import compile_pipeline
from pipelines.placement import read_placement
from pipelines.plan import Plan, RawData
from tumor_cascade.configuration import build_preset
from tumor_cascade.data_reference import DataReference, ManifestReference
from tumor_cascade.storage import atomic_file

COMPILED_DIR = Path(__file__).with_name("compiled")
IMAGE = f"registry.example.org/tumor-cascade@sha256:{'0' * 64}"
REFERENCE = DataReference(
    store="s3://example/tumor-cascade",
    layout="dvc-md5",
    directory="0" * 32,
    num_files=111,
    num_bytes=1_000_000_000,
    manifest=ManifestReference(md5="1" * 32, sha256="2" * 64),
)
# File -> pipeline and preset.
GOLDEN = {
    "train_cascade.yaml": ("train_cascade", "honest"),
    "cross_validate.yaml": ("cross_validate", "honest"),
    "batch_predict.yaml": ("batch_predict", "honest"),
}
HASH = re.compile(r"(?<=cacheKey: )\w{64}|(?<=value: )[0-9a-f]{64}")


def render(name: str, preset: str) -> str:
    """Return a pipeline of a preset as YAML, with hashes numbered in order of appearance."""
    data = RawData(reference=REFERENCE.model_dump_json())
    plan = Plan(IMAGE, build_preset(preset), data, read_placement())
    with tempfile.TemporaryDirectory() as work:
        out = Path(work, "pipeline.yaml")
        compile_pipeline(name, plan, out)
        text = out.read_text(encoding="utf-8")
    hashes = list(dict.fromkeys(HASH.findall(text)))
    return HASH.sub(lambda match: f"'{hashes.index(match[0]) + 1:064d}'", text)


def main() -> None:
    """Write all golden files."""
    for file, (name, preset) in GOLDEN.items():
        with atomic_file(COMPILED_DIR / file) as temporary:
            temporary.write_text(render(name, preset), encoding="utf-8")
        print(COMPILED_DIR / file)


if __name__ == "__main__":
    main()
