"""Faces of a store of pictures with Spark: python examples/spark_detect.py PICTURES OUTPUT.parquet|OUTPUT.jsonl [MODEL]

PICTURES is a folder or pattern that Spark can list (a path, s3a://…, hdfs://…), OUTPUT a folder that Spark writes. Each
picture gives one row: path, width, height, faces, and error where it cannot be used; files without a byte, which Spark
passes over, give none. On a cluster:

    spark-submit examples/spark_detect.py s3a://store/photos s3a://store/faces.parquet

Every worker needs the packages retinaface-keras, pandas and pyarrow. One thread per picture: Spark fills the cores.
"""

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from tflite import FaceDetector, read_image

FACE = "box: array<float>, score: float, landmarks: array<array<float>>"
SCHEMA = f"path: string, width: int, height: int, faces: array<struct<{FACE}>>, error: string"
LARGEST = 1 << 28  # bytes of a file; Spark would hold it whole
AT_ONCE = "16"  # pictures that a worker is handed; Spark's 10,000 would be all of its memory


@functools.cache
def detector(model: str | None) -> FaceDetector:
    """One in each worker process, made when its first picture comes."""
    return FaceDetector(model, num_threads=1)


def row(path: str, content: bytes, model: str | None) -> tuple[Any, ...]:
    """A picture that cannot be used is a row too: it must not stop a job over millions."""
    try:
        image = read_image(bytes(content), name=path)
        return path, image.shape[1], image.shape[0], detector(model).detect(image).to_list(), None
    except Exception as error:
        return path, None, None, None, f"{type(error).__name__}: {error}"


def rows(batches: Iterator[pd.DataFrame], model: str | None) -> Iterator[pd.DataFrame]:
    """For `mapInPandas`: pictures to rows of `SCHEMA`."""
    for batch in batches:
        found = [row(path, content, model) for path, content in zip(batch["path"], batch["content"], strict=True)]
        yield pd.DataFrame(found, columns=["path", "width", "height", "faces", "error"], dtype=object)


def main(pictures: str, output: str, model: str | None = None) -> None:
    """Run the job."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the first python3 on the workers' PATH
    spark = SparkSession.builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", AT_ONCE).getOrCreate()
    # Imported by its name, the module and its one detector outlast a task in the worker.
    spark.sparkContext.addPyFile(__file__)
    import spark_detect

    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").option("ignoreMissingFiles", "true")
    try:
        found = files.load(pictures)
        large = found.where(F.col("length") > LARGEST).select("path", F.lit("larger than 256 MB").alias("error"))
        small = found.where(F.col("length") <= LARGEST).select("path", "content")
        result = small.mapInPandas(functools.partial(spark_detect.rows, model=model), SCHEMA)
        result = result.unionByName(large, allowMissingColumns=True)
        result.write.format("json" if Path(output).suffix in (".json", ".jsonl") else "parquet").save(output)
    except AnalysisException as error:
        sys.exit(f"spark_detect: {str(error).splitlines()[0]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
