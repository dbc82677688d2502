"""A driver interrupted in every way it can be, from the outside, as a user's machine would."""

import json
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.support.patience import PATIENCE_SECONDS
from tests.support.worker_processes import worker_processes
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.errors import DONE, INTERRUPTED
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.search.run import resume_search, start_search
from tune_mentormix.search.stopper import SearchStopper, stop_on_signals
from tune_mentormix.storage.journal import read_events

REPOSITORY = Path(__file__).parents[2]
SEARCH = {
    **{"noise": 0.4, "validation_fraction": 0.2, "max_images": 800},
    **{"epochs": 12, "num_samples": 4, "checkpoint_every": 2, "max_concurrent": 1},
}


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        [sys.executable, "run_search.py", *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_reports(driver: subprocess.Popen[str], journal: Path, wanted: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if driver.poll() is not None:
            raise AssertionError(f"the search ended early: {driver.communicate()[0]}")
        if journal.exists() and reports(journal) >= wanted:
            return
        time.sleep(0.05)
    raise AssertionError("the search reported too little in time")


def reports(journal: Path) -> int:
    return sum(event["event"] == "report" for event in read_events(journal))


def status(storage: Path) -> dict[str, Any]:
    printed = subprocess.run(
        [sys.executable, "run_search.py", "status", "cut", "--json", "--storage", str(storage)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(printed.stdout))


def test_a_search_killed_and_then_interrupted_ends_as_if_neither_had_happened(
    run_search: Callable[..., Experiment], tmp_path: Path
) -> None:
    undisturbed = run_search(tmp_path / "other", name="whole", **SEARCH)

    (tmp_path / "search.yaml").write_text("".join(f"{key}: {value}\n" for key, value in SEARCH.items()))
    storage, journal = tmp_path / "storage", tmp_path / "storage" / "cut" / "journal.jsonl"
    where = ("--storage", str(storage))

    first = start("search", "--config", str(tmp_path / "search.yaml"), "--name", "cut", *where)
    wait_for_reports(first, journal, 15)
    first.send_signal(signal.SIGSTOP)  # or it may come to its end before anyone has looked
    assert status(storage)["state"] == "running"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert status(storage)["state"] == "interrupted"

    second = start("resume", "cut", *where)
    wait_for_reports(second, journal, reports(journal) + 5)  # so that it trains, however many the first one had
    refused = start("resume", "cut", *where)
    assert "is running already" in refused.communicate()[0]
    assert refused.returncode == 2
    second.send_signal(signal.SIGINT)
    printed = second.communicate()[0]
    assert second.returncode == INTERRUPTED, printed
    assert "resume cut" in printed

    resumed = resume_search(storage, "cut", {}, lambda _experiment: None)
    assert resumed.state() == "finished"
    assert {n: t.config for n, t in resumed.trials.items()} == {n: t.config for n, t in undisturbed.trials.items()}
    assert {n: t.curve for n, t in resumed.trials.items()} == {n: t.curve for n, t in undisturbed.trials.items()}
    assert {n: t.state for n, t in resumed.trials.items()} == {n: t.state for n, t in undisturbed.trials.items()}
    assert {n: t.answers for n, t in resumed.trials.items()} == {n: t.answers for n, t in undisturbed.trials.items()}
    ends = Counter(event["trial"] for event in read_events(journal) if event["event"] in ("finished", "stopped"))
    assert ends == Counter(range(4))
    again = resumed.epochs_run - undisturbed.epochs_run
    assert 0 <= again <= 2 * 2, "at most the epochs since the last checkpoint run again, once an interruption"


@pytest.mark.usefixtures("hangup_ends")
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_search_cleanly_and_the_old_handlers_return(
    ray_session: None, small_settings: Callable[..., SearchSettings], tmp_path: Path, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    sent: list[int] = []

    def interrupt(experiment: Experiment) -> None:
        if experiment.epochs_run == 3 and not sent:
            sent.append(3)
            signal.raise_signal(number)

    experiment = start_search(small_settings(tmp_path, name="cut", epochs=100, max_concurrent=2), interrupt)
    assert (experiment.ended, experiment.state()) == ("interrupted", "interrupted")
    assert experiment.epochs_run < 100
    assert signal.getsignal(number) is before
    ended = list(read_events(tmp_path / "cut" / "journal.jsonl"))[-1]
    assert (ended["reason"], ended["signal"]) == ("interrupted", number.name)


@pytest.mark.usefixtures("hangup_ends")
@pytest.mark.parametrize(
    ("number", "awaits"), [(signal.SIGTERM, True), (signal.SIGINT, False), (signal.SIGHUP, False)]
)
def test_only_after_a_sigterm_a_search_waits_for_the_loss_of_ray(number: signal.Signals, awaits: bool) -> None:
    calls: list[str] = []
    stopper = SimpleNamespace(reason=None, signal=None)

    with stop_on_signals(cast(SearchStopper, stopper), "resume cut", lambda: calls.append("awaited")):
        signal.raise_signal(number)

    assert (stopper.reason, stopper.signal) == ("interrupted", number.name)
    assert bool(calls) == awaits


@pytest.mark.slow
def test_a_signal_to_the_process_group_ends_a_search_as_interrupted_though_ray_ends_too(
    tmp_path: Path,
) -> None:
    (tmp_path / "search.yaml").write_text("".join(f"{key}: {value}\n" for key, value in SEARCH.items()))
    driver = start("search", "--config", str(tmp_path / "search.yaml"), "--name", "cut", "--storage", str(tmp_path))
    journal = tmp_path / "cut" / "journal.jsonl"
    wait_for_reports(driver, journal, 3)
    os.killpg(driver.pid, signal.SIGTERM)
    output, _ = driver.communicate(timeout=PATIENCE_SECONDS)
    assert driver.returncode == INTERRUPTED, output
    assert "run_search.py resume cut" in output
    assert "Traceback" not in output
    ended = [event for event in read_events(journal) if event["event"] == "run_ended"]
    assert [(event["reason"], event["signal"]) for event in ended] == [("interrupted", "SIGTERM")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stdout", "stderr", "lost"),
    [
        ("| true", "2>&1", "Broken pipe"),
        pytest.param("", "2>/dev/full", "No space left on device", marks=pytest.mark.cluster),
        pytest.param(">/dev/full", "", None, marks=pytest.mark.cluster),
        pytest.param(">&-", "2>&- <&-", None, marks=pytest.mark.cluster),
    ],
)
def test_a_search_goes_on_without_its_output(tmp_path: Path, stdout: str, stderr: str, lost: str | None) -> None:
    settings = {**SEARCH, "num_samples": 2}
    (tmp_path / "search.yaml").write_text("".join(f"{key}: {value}\n" for key, value in settings.items()))
    words = ["search", "--config", str(tmp_path / "search.yaml"), "--name", "mute", "--storage", str(tmp_path)]
    command = f"{shlex.join([sys.executable, 'run_search.py', *words])} {stderr} {stdout}"
    ran = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ran.returncode == DONE, ran.stderr
    assert "Traceback" not in ran.stderr
    events = list(read_events(tmp_path / "mute" / "journal.jsonl"))
    assert (events[-1]["event"], events[-1]["reason"]) == ("run_ended", "finished")
    assert [event["reason"] for event in events if event["event"] == "output_lost"] == ([lost] if lost else [])
    if stdout == ">/dev/full":
        assert "stdout cannot be written: No space left on device. The work continues without it" in ran.stderr


@pytest.mark.cluster
def test_a_search_whose_terminal_is_closed_ends_cleanly_and_under_nohup_goes_on(tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text("".join(f"{key}: {value}\n" for key, value in SEARCH.items()))
    words = [sys.executable, "run_search.py", "search", "--config", str(tmp_path / "search.yaml"), "--storage"]
    for name, before, reason in (("cut", "", "interrupted"), ("on", "trap '' HUP; ", "finished")):
        process, terminal = pty.fork()
        if process == 0:
            os.chdir(REPOSITORY)
            os.execv("/bin/bash", ["bash", "-c", before + shlex.join([*words, str(tmp_path), "--name", name])])
        journal = tmp_path / name / "journal.jsonl"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (journal.exists() and reports(journal) >= 3):
            assert time.monotonic() < deadline, "the search reported too little in time"
            if select.select([terminal], [], [], 0.1)[0]:
                os.read(terminal, 65_536)
        os.close(terminal)
        os.waitpid(process, 0)
        ended = list(read_events(journal))[-1]
        assert (ended["event"], ended["reason"]) == ("run_ended", reason)


@pytest.mark.slow
def test_a_trial_whose_worker_is_killed_resumes_from_its_checkpoint_and_may_lose_more_workers_as_it_makes_progress(
    ray_session: None, small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> None:
    kill_after = [5, 10]  # epochs

    def kill_a_worker(experiment: Experiment) -> None:
        if kill_after and experiment.epochs_run >= kill_after[0]:
            kill_after.pop(0)
            worker_processes()[0].kill()

    settings = small_settings(tmp_path, name="lost", epochs=20, num_samples=1, checkpoint_every=2, max_restarts=1)
    experiment = start_search(settings, kill_a_worker)
    (trial,) = experiment.trials.values()
    assert (trial.state, trial.attempt) == ("finished", 3)
    assert list(trial.curve) == list(range(1, 21))
    assert experiment.epochs_run <= 20 + 2 * 2, "at most the epochs since its last checkpoint run again"
    folders = {Path(path).parent.name for _, path in trial.checkpoints}
    assert folders == {"trial-0000", "trial-0000-attempt-2", "trial-0000-attempt-3"}


@pytest.mark.slow
def test_a_trial_that_takes_its_worker_down_every_time_fails(
    ray_session: None, small_settings: Callable[..., SearchSettings], tmp_path: Path
) -> None:
    killed: set[int] = set()

    def kill_every_worker(experiment: Experiment) -> None:
        for process in worker_processes():
            if process.pid not in killed:
                killed.add(process.pid)
                process.kill()

    settings = small_settings(tmp_path, name="deadly", epochs=20, num_samples=1, max_restarts=1)
    (trial,) = start_search(settings, kill_every_worker).trials.values()
    assert (trial.state, trial.attempt) == ("failed", 2)
    assert len(killed) >= 2, "Ray itself replaces a worker that dies before the trial reaches it"
    assert "lost 2 times without a new epoch" in str(trial.error)
    assert "not known" not in str(trial.error), "the cause is Ray's"
