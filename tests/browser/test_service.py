"""A team's day in a browser: two searches on a real cluster, one stopped, the head restarted, and resumed."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import why_not
from tests.support.jobs_cluster import REPOSITORY, JobsCluster, free_ports
from tune_mentormix.experiment.experiment import read_experiment

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not())

TOKEN = "browser-test-token-of-role-run"
MS = 1_000
LONG_EPOCHS, LONG_TRIALS = 200, 4  # too few trials for anyone to be stopped early
BEGIN, END = 120 * MS, 240 * MS  # until a search shows its first result, or its last


@pytest.fixture(scope="module")
def cluster() -> Iterator[JobsCluster]:
    """A head and two nodes, in token mode."""
    cluster = JobsCluster(cpus=1, nodes=2)
    yield cluster
    cluster.close()


@pytest.fixture
def service(cluster: JobsCluster, tmp_path: Path) -> Iterator[str]:
    """Serves the cluster's searches; its URL."""
    (port,) = free_ports(1)
    command = ["serve", "--storage", str(tmp_path / "results"), "--dashboard", cluster.address, "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "run_search.py", *command],
            cwd=REPOSITORY,
            env=cluster.environment(TUNE_MENTORMIX_RUN_TOKEN=TOKEN),
            stderr=log,
        )
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture
def page(browser: Browser, service: str) -> Iterator[Page]:
    """A browser that signed in."""
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(30 * MS)
    go_to(page, f"{service}/login", "Sign in")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Searches")).to_be_visible()
    yield page
    context.close()


def go_to(page: Page, url: str, heading: str) -> None:
    """Opens a page as soon as its server listens."""
    deadline = time.monotonic() + 60
    while True:
        try:
            page.goto(url)
            expect(page.get_by_role("heading", name=heading)).to_be_visible(timeout=5 * MS)
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def submit(page: Page, service: str, name: str, epochs: int, trials: int) -> None:
    page.goto(f"{service}/submit")
    page.get_by_label("name", exact=True).fill(name)
    page.get_by_label("epochs", exact=True).fill(str(epochs))
    page.get_by_label("num_samples", exact=True).fill(str(trials))
    page.get_by_label("max_concurrent", exact=True).fill("1")
    page.get_by_text("Data, samplers, resources").click()
    page.get_by_label("max_images", exact=True).fill("300")
    page.get_by_label("checkpoint_every", exact=True).fill("5")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("status")).to_contain_text("was sent to the cluster", timeout=60 * MS)


def test_two_searches_are_submitted_watched_stopped_and_resumed_over_a_restart_of_the_head(
    page: Page, service: str, cluster: JobsCluster, tmp_path: Path
) -> None:
    submit(page, service, "short", 10, 4)
    submit(page, service, "long", LONG_EPOCHS, LONG_TRIALS)
    row = page.get_by_role("row", name=re.compile(r"\blong "))
    expect(row).to_contain_text("running", timeout=BEGIN)  # the list follows without being loaded again
    page.get_by_role("link", name="long", exact=True).click()
    expect(page.get_by_role("img", name=re.compile("Learning curves"))).to_be_visible(timeout=BEGIN)
    epochs = page.locator("header .note")
    before = epochs.inner_text()
    expect(epochs).not_to_have_text(before)  # so does the page of a search

    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("status")).to_contain_text("asked to stop")
    expect(page.locator(".eyebrow .state")).to_have_text("interrupted", timeout=BEGIN)
    page.goto(f"{service}/searches/short")
    expect(page.locator(".eyebrow .state")).to_have_text("finished", timeout=END)
    expect(page.locator("tr.best").first).to_contain_text("best found")
    stopped = read_experiment(tmp_path / "results", "long")

    cluster.kill()
    page.goto(service)
    expect(page.get_by_role("row", name=re.compile(r"\blong "))).to_contain_text("interrupted")  # from the storage
    expect(page.get_by_role("row", name=re.compile(r"\bshort "))).to_contain_text("finished")
    cluster.start()

    page.goto(f"{service}/searches/long")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status")).to_contain_text("resumes where it was")
    expect(page.locator(".eyebrow .state")).to_have_text("running", timeout=BEGIN)
    expect(page.locator(".eyebrow .state")).to_have_text("finished", timeout=END)
    resumed = read_experiment(tmp_path / "results", "long")
    assert resumed.runs == 2
    for number, trial in stopped.trials.items():
        assert resumed.trials[number].curve | trial.curve == resumed.trials[number].curve
    assert {state: count for state, count in resumed.counts().items() if count} == {"finished": LONG_TRIALS}
    assert all(list(trial.curve) == list(range(1, LONG_EPOCHS + 1)) for trial in resumed.trials.values())
