"""A team behind HTTPS and single sign-on, on a real cluster: what an owner, a stranger and an admin may do."""

from __future__ import annotations

import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2 as httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import why_not
from tests.browser.test_service import BEGIN, END, MS, go_to, submit
from tests.support.jobs_cluster import REPOSITORY, JobsCluster, free_ports
from tests.support.listener import Listener, listening
from tests.support.proxied import COOKIE, NGINX, proxied

WHY_NOT = why_not() or ("" if NGINX else "there is no nginx on this machine")
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)

SECRET = "s" * 32
TOKEN = "browser-test-token-of-role-run"
ANN, BOB, BOSS = "ann@example.org", "bob@example.org", "boss@example.org"


@pytest.fixture(scope="module")
def cluster() -> Iterator[JobsCluster]:
    """A head and a node, in token mode."""
    cluster = JobsCluster(cpus=1, nodes=1)
    yield cluster
    cluster.close()


@pytest.fixture
def told() -> Iterator[Listener]:
    """Whom the service tells of its searches."""
    with listening() as listener:
        yield listener


@pytest.fixture
def service(cluster: JobsCluster, told: Listener, tmp_path: Path) -> Iterator[str]:
    """Serves the cluster's searches behind nginx; its URL."""
    inner, outer = free_ports(2)
    config = tmp_path / "server.yaml"
    config.write_text(
        f"storage: {tmp_path / 'results'}\naddress: {cluster.address}\nhttps: true\n"
        f"trusted_proxies: [127.0.0.1]\nsign_in_header: X-Auth-Request-Email\nadmins: [{BOSS}]\n"
        f"sign_out_path: /oauth2/sign_out\nnotify: ['{told.address}']\nnotify_on: [ended, failed]\n"
    )
    config.chmod(0o600)
    environment = cluster.environment(TUNE_MENTORMIX_PROXY_SECRET=SECRET, TUNE_MENTORMIX_RUN_TOKEN=TOKEN)
    with (tmp_path / "log").open("wb") as log, proxied(tmp_path, inner, outer, SECRET) as url:
        process = subprocess.Popen(
            [sys.executable, "run_search.py", "serve", "--config", str(config), "--port", str(inner)],
            cwd=REPOSITORY,
            env=environment,
            stderr=log,
        )
        yield url
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture
def page_of(browser: Browser, service: str) -> Iterator[Callable[[str], Page]]:
    """Opens a browser of somebody whom the proxy has signed in."""
    contexts = []

    def open_page(user: str) -> Page:
        context = browser.new_context(ignore_https_errors=True)
        contexts.append(context)
        context.add_cookies([{"name": COOKIE, "value": user, "url": service}])
        page = context.new_page()
        page.set_default_timeout(30 * MS)
        go_to(page, service, "Searches")
        return page

    yield open_page
    for context in contexts:
        context.close()


def test_a_search_is_confirmed_refitted_and_deleted_by_whom_it_belongs_to(
    page_of: Callable[[str], Page], service: str, told: Listener, browser: Browser, tmp_path: Path
) -> None:
    anybody = browser.new_context(ignore_https_errors=True).new_page()
    anybody.goto(f"{service}/searches/birds")
    expect(anybody.get_by_role("heading", name="Sign in with your account")).to_be_visible()

    ann = page_of(ANN)
    expect(ann.locator(".who")).to_have_text(f"{ANN} (run)")
    submit(ann, service, "birds", 10, 4)
    ann.get_by_role("link", name="birds", exact=True).click(timeout=BEGIN)
    expect(ann.locator(".eyebrow")).to_contain_text(f"of {ANN}")
    expect(ann.locator(".eyebrow .state")).to_have_text("finished", timeout=END)
    assert told.titles(1)[0].startswith("birds")

    bob = page_of(BOB)
    bob.goto(f"{service}/searches/birds")
    expect(bob.get_by_role("link", name="Report")).to_be_visible()
    for name in ("Confirm", "Extend", "Delete"):
        expect(bob.get_by_role("button", name=name)).to_have_count(0)

    ann.get_by_text("Options of a confirmation").click()
    ann.get_by_label("top_k").fill("2")
    ann.get_by_label("seeds").fill("2")
    ann.get_by_role("button", name="Confirm").click()
    expect(ann.get_by_role("status")).to_contain_text("confirmation was sent to the cluster")
    confirmation = ann.locator("#confirmation")
    expect(confirmation.locator(".state")).to_have_text("running", timeout=BEGIN)
    expect(confirmation.locator(".state")).to_have_text("finished", timeout=END)
    expect(confirmation).to_contain_text("points")  # the verdict

    ann.goto(f"{service}/searches/birds")
    ann.get_by_text("Make on the cluster").click()
    ann.get_by_role("button", name="Weights trained on all images").click()
    expect(ann.locator("#made .state")).to_have_text("finished", timeout=END)
    with ann.expect_download() as download:
        ann.locator("#made").get_by_role("link", name="Download").click()
    archive = tmp_path / "refit.tar"
    download.value.save_as(archive)
    with tarfile.open(archive) as members:
        assert "birds/model.safetensors" in members.getnames()

    boss = page_of(BOSS)
    boss.goto(f"{service}/searches/birds")
    boss.get_by_text("Clean up or delete").click()
    boss.get_by_label("Type birds to delete it").fill("cats")
    boss.get_by_role("button", name="Delete").click()
    expect(boss.locator("main")).to_contain_text("nothing was deleted")
    boss.goto(f"{service}/searches/birds")
    boss.get_by_text("Clean up or delete").click()
    boss.get_by_label("Type birds to delete it").fill("birds")
    boss.get_by_role("button", name="Delete").click()
    expect(boss.get_by_role("status")).to_contain_text("The search was deleted")
    assert not (tmp_path / "results" / "birds").exists()
    boss.get_by_role("button", name="Sign out").click()
    expect(boss.get_by_role("heading", name="Sign in with your account")).to_be_visible()


def test_programs_use_tokens_through_the_proxy_and_logins_are_limited(
    page_of: Callable[[str], Page], service: str, tmp_path: Path
) -> None:
    page_of(ANN)  # the service answers
    with httpx.Client(base_url=service, verify=False) as client:
        own = {"Authorization": f"Bearer {TOKEN}"}
        forged = {"X-Auth-Request-Email": BOSS, "X-Proxy-Secret": SECRET}
        assert client.get("/api/v1/experiments", headers=own).status_code == 200
        assert client.get("/api/v1/experiments", headers=own | forged).status_code == 200
        wrong = {"Authorization": "Bearer " + "x" * 30}
        assert client.get("/api/v1/experiments", headers=wrong | forged).status_code == 401
        answers = [client.post("/login", data={"token": "x"}, headers=wrong).status_code for _ in range(12)]
    assert answers[:10] == [401] * 10
    assert answers[-1] == 429
    assert '"client": "127.0.0.1"' in (tmp_path / "log").read_text()
