"""A search whose experiment lives on an object store."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.support.object_store import ObjectStore
from tests.support.patience import PATIENCE_SECONDS
from tests.support.searches import SMALL
from tune_mentormix.cli.app import run
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.search.run import resume_search
from tune_mentormix.storage.journal import JOURNAL_FILE, read_events
from tune_mentormix.storage.paths import RemotePath
from tune_mentormix.storage.yaml_files import write_yaml

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
KILLED_AFTER, OUTAGE_AFTER = 7, 12  # reports
OUTAGE_SECONDS = 2.0


def kill_after(reports: int, command: list[str], journal: RemotePath) -> None:
    """Runs a search in a separate process, and kills it once so many reports are stored."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    driver = subprocess.Popen(
        [sys.executable, "run_search.py", *command],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while sum(event["event"] == "report" for event in read_events(journal)) < reports:
        assert driver.poll() is None, driver.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()


@pytest.fixture(scope="module")
def disturbed_search(
    ray_session: None,
    object_store: ObjectStore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Experiment:
    """The small search on an object store: its driver is killed, and the store is gone for a while in the resume."""
    storage = RemotePath(object_store.uri("team/searches"))
    config = tmp_path_factory.mktemp("request") / "search.yaml"
    write_yaml(config, SMALL)
    command = ["search", "--config", str(config), "--name", "done", "--storage", str(storage)]
    kill_after(KILLED_AFTER, command, storage / "done" / JOURNAL_FILE)
    assert read_experiment(storage, "done").state() == "interrupted"

    stopped: list[int] = []

    def stop_the_store_for_a_while(experiment: Experiment) -> None:
        if experiment.epochs_run >= OUTAGE_AFTER and not stopped:
            stopped.append(experiment.epochs_run)
            object_store.stop()
            threading.Timer(OUTAGE_SECONDS, object_store.start_again).start()

    experiment = resume_search(storage, "done", {}, stop_the_store_for_a_while)
    assert stopped
    return experiment


def test_it_ends_as_on_a_disk_that_nothing_happened_to(
    disturbed_search: Experiment, finished_search: Experiment
) -> None:
    assert disturbed_search.state() == "finished"
    assert {n: t.config for n, t in disturbed_search.trials.items()} == {
        n: t.config for n, t in finished_search.trials.items()
    }
    assert {n: t.curve for n, t in disturbed_search.trials.items()} == {
        n: t.curve for n, t in finished_search.trials.items()
    }
    events = list(read_events(disturbed_search.path / JOURNAL_FILE))
    ends = Counter(event["trial"] for event in events if event["event"] in ("finished", "stopped", "failed"))
    assert ends == Counter(range(5))
    assert disturbed_search.epochs_run - finished_search.epochs_run <= 2, "since the last checkpoint"


def test_its_journal_is_few_segments(disturbed_search: Experiment) -> None:
    assert isinstance(disturbed_search.path, RemotePath)
    assert len(list((disturbed_search.path / "journal").iterdir())) <= 2


def test_every_command_reads_it(
    disturbed_search: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = ["--storage", str(disturbed_search.path.parent)]
    monkeypatch.chdir(tmp_path)
    assert run(["status", "done", "--json", *storage]) == 0
    assert json.loads(capsys.readouterr().out)["trials"]["failed"] == 0
    assert run(["list", *storage]) == 0
    assert re.search(r"^done  .*  finished  5/5", capsys.readouterr().out, re.MULTILINE)
    assert run(["export", "done", "--out", "best", *storage]) == 0
    assert (tmp_path / "best" / "model.safetensors").is_file()
    assert run(["report", "done", *storage]) == 0
    assert (tmp_path / "done-report.html").is_file()


def test_a_name_that_is_taken_is_refused(disturbed_search: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["search", "--name", "done", "--storage", str(disturbed_search.path.parent)]) == 2
    assert "exists already" in capsys.readouterr().err
