"""What a job takes along to a cluster: this project's code, how it starts there, and how it is to be stopped."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import search_spaces
import trainables
import tune_mentormix
from tune_mentormix.storage.paths import Location
from tune_mentormix.submissions import Submission

STOP_SECONDS = 30  # until a driver that was asked to stop is killed
PACKAGES = (tune_mentormix, trainables, search_spaces)


def entrypoint(storage: Location, submission: Submission) -> str:
    """The job's shell command: names the submission's record, in which everything else stands."""
    words = ["submitted", submission.name, str(submission.number), "--storage", str(storage)]
    return shlex.join(["python", "-m", "tune_mentormix", *words])


@contextmanager
def runtime_env() -> Iterator[dict[str, Any]]:
    """Ray's description of the job's environment; the folder it names is there while the block runs."""
    with TemporaryDirectory(prefix="tune-mentormix-") as folder:
        for package in PACKAGES:
            source = Path(str(package.__file__)).parent
            shutil.copytree(source, Path(folder) / source.name, ignore=shutil.ignore_patterns("__pycache__"))
        yield {
            "working_dir": folder,
            # By itself, Ray stops a job with SIGTERM and kills it three seconds later.
            "env_vars": {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS)},
        }
