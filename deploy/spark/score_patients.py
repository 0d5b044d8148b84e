"""Score a lake of images with a promoted cascade on Spark: a folder or bucket of patients in, Parquet of answers out.

    spark-submit deploy/spark/score_patients.py --images s3a://lake/patients --out s3a://lake/answers

Images named `<patient>/<patient>_<number>.tif` (or .png) are slices of one patient, wherever the folder lies; any other
image is a volume of its own; masks (`*_mask.tif`) are passed over. The cascade reads a patient's slices together, so
`groupBy` brings them into one row first and `mlflow.pyfunc.spark_udf` answers row by row: whatever batches Spark makes
of the rows, no patient is cut. Research use only.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import mlflow
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from tumor_cascade.errors import TumorCascadeError
from tumor_cascade.registry.volume_model import pack_volume_model

GLOB = "*.{[pP][nN][gG],[tT][iI][fF],[tT][iI][fF][fF]}"
LISTS = ("slice_index", "id", "image")
SLICE = r"^(.+)_([0-9]{1,9})$"
NUM_SHOWN = 20  # errors on the screen; all are in the answers
VOLUMES_PER_BATCH = 4  # a patient is some megabytes; several at a time keep a worker busy and its memory small


def read_volumes(spark: SparkSession, images: str, num_parts: int) -> DataFrame:
    """Return one row per volume: `volume_id`, and lists of `slice_index`, `id` (the file's path) and `image` (base64).

    Args:
        spark: The session.
        images: Folder or bucket, as Spark names it.
        num_parts: Over which volumes are dealt; said outright, or Spark would make few parts of so few bytes.
    """
    options = {"pathGlobFilter": GLOB, "recursiveFileLookup": "true"}
    files = spark.read.format("binaryFile").options(**options).load(images)
    stem = f.regexp_replace(f.element_at(f.split("path", "/"), -1), r"\.[^.]*$", "")
    folder = f.element_at(f.split("path", "/"), -2)
    is_slice = f.regexp_extract(stem, SLICE, 1) == folder
    rows = files.where(~stem.endswith("_mask")).select(
        f.when(is_slice, folder).otherwise(f.col("path")).alias("volume_id"),
        f.when(is_slice, f.regexp_extract(stem, SLICE, 2).cast("long")).otherwise(f.lit(0)).alias("slice_index"),
        f.col("path").alias("id"),
        f.base64("content").alias("image"),
    )
    rows = rows.repartition(num_parts, "volume_id")
    rows = rows.dropDuplicates(["volume_id", "slice_index", "image"])  # archives hold copies
    one = f.struct("slice_index", "id", "image")
    grouped = rows.groupBy("volume_id").agg(f.sort_array(f.collect_list(one)).alias("slices"))
    return grouped.select(
        "volume_id", *(f.col(f"slices.{name}").alias(name) for name in ("slice_index", "id", "image"))
    )


def score(spark: SparkSession, volumes: DataFrame, model: str) -> DataFrame:
    """Return a row per slice: what `tumor-cascade serve` answers, with the mask as run lengths.

    Args:
        spark: The session.
        volumes: As `read_volumes` returns them.
        model: Folder of `pack_volume_model`; Spark carries it to its workers.
    """
    answer = mlflow.pyfunc.spark_udf(spark, model, env_manager="local")
    return volumes.select(f.explode(answer("volume_id", *LISTS)["answers"]).alias("answer")).select("answer.*")


def main() -> None:
    """Score and say how it went; exit 1 if no image could be answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder or bucket: /data, s3a://bucket/prefix")
    parser.add_argument("--out", required=True, help="Parquet to make; must not exist")
    parser.add_argument("--model", default="models:/tumor-cascade@champion", help="version in the registry")
    parser.add_argument("--parts", type=int, help="parts of work; by default two per core of the cluster")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as work:
            model = pack_volume_model(options.model, Path(work, "model"))
            spark = SparkSession.builder.appName("tumor-cascade").getOrCreate()
            spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", VOLUMES_PER_BATCH)
            num_parts = options.parts or 2 * spark.sparkContext.defaultParallelism
            score(spark, read_volumes(spark, options.images, num_parts), str(model)).write.parquet(options.out)
    except TumorCascadeError as error:
        print(f"score_patients: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    raise SystemExit(report(spark.read.parquet(options.out), options.out))


def report(answers: DataFrame, out: str) -> int:
    """Print how many volumes and slices were answered, and some errors; return the exit code."""
    num_volumes, num_slices = answers.select(f.countDistinct("volume_id"), f.count("*")).first()
    errors = answers.where("status = 'error'")
    num_errors = errors.count()
    print(f"{num_volumes} volumes, {num_slices} slices, {answers.where('is_positive').count()} positive -> {out}")
    for row in errors.select("id", "error").take(NUM_SHOWN):
        print(f"{row['id']}: {row['error']}")
    print(f"{num_errors} slices could not be answered. Research use only.")
    return 1 if num_errors == num_slices else 0


if __name__ == "__main__":
    main()
