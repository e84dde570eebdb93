"""Proof on Spark: a job whose executors and workers are killed starts each row once.

`python -m tests.engines.spark_driver`; needs `java` on the path.

A standalone master and two workers of two cores run `spark_job.py` of `docs/stores.md`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import List

import pyspark

from tests.engines.partitions import JOB, Cluster, prove_both
from tests.engines.service import Process, free_port, listens, pids_where, proved, until

HOME = Path(pyspark.__file__).parent


def program(name: str) -> str:
    return str(HOME / "bin" / name)


class Spark(Cluster):
    def __init__(self, folder: Path) -> None:
        port = free_port()
        self._url = f"spark://127.0.0.1:{port}"
        os.environ.update(SPARK_HOME=str(HOME), PYSPARK_PYTHON=sys.executable)
        os.environ.update(SPARK_LOCAL_IP="127.0.0.1", SPARK_WORKER_DIR=str(folder / "work"))
        options = ("--host", "127.0.0.1", "--port", str(port), "--webui-port", str(free_port()))
        master = Process(
            "org.apache.spark.deploy.master.Master", *options, program=program("spark-class")
        )
        until(lambda: listens(port))
        super().__init__(master, [self.worker() for _ in range(2)])

    def worker(self) -> Process:
        options = ("--host", "127.0.0.1", "--cores", "2", "--memory", "1g")
        ports = ("--webui-port", str(free_port()))
        worker = "org.apache.spark.deploy.worker.Worker"
        return Process(worker, *options, *ports, self._url, program=program("spark-class"))

    def submit(self, job: Path, output: Path) -> Process:
        files = ",".join(str(job.parent / name) for name in ("stores.py", "partitions.py"))
        # With the default of 4 the job fails when one partition has met four of the kills.
        settings = (
            "spark.task.maxFailures=20",
            "spark.executor.memory=512m",
            "spark.ui.enabled=false",
        )
        confs = [word for setting in settings for word in ("--conf", setting)]
        return Process(
            *("--master", self._url, "--py-files", files, *confs, str(job), JOB),
            program=program("spark-submit"),
            output=output,
        )

    def running(self) -> List[int]:
        return pids_where(self.workers, lambda command: b"CoarseGrainedExecutorBackend" in command)


def main() -> None:
    proved(prove_both("Spark, executors and workers killed", "spark_job", Spark))


if __name__ == "__main__":
    main()
