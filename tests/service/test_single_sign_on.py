"""Signing in by a header of the proxy in front: only with its secret, and only as long as the proxy says so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.service.conftest import TOKENS
from tests.support.in_memory_jobs import InMemoryJobs
from tests.support.simulated_search import simulate_search
from tune_mentormix.errors import RequestError
from tune_mentormix.service.app import make_app
from tune_mentormix.service.settings import ServerSettings, read_server_settings
from tune_mentormix.service.single_sign_on import SingleSignOn

SECRET = "p" * 32
HEADER = "X-Auth-Request-Email"
HTML = {"Accept": "text/html"}


def by_proxy(user: str, secret: str = SECRET) -> dict[str, str]:
    return HTML | {HEADER: user, "X-Proxy-Secret": secret}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    simulate_search(tmp_path, "birds", 2, owner="ann@example.org")
    server = ServerSettings(storage=tmp_path, sign_out_path="/oauth2/sign_out")
    single_sign_on = SingleSignOn(HEADER, SECRET, "run", ["boss@example.org"], "/oauth2/sign_out")
    jobs = InMemoryJobs()
    with TestClient(make_app(server, TOKENS, jobs, None, single_sign_on), base_url="http://127.0.0.1") as client:
        yield client


def signed_in(client: TestClient, user: str, path: str = "/") -> str:
    """Opens a page as a browser behind the proxy does, which asks again once it has its cookie."""
    first = client.get(path, headers=by_proxy(user))
    if "Signed in as" in first.text:
        assert f'url={path}"' in first.text
        first = client.get(path, headers=by_proxy(user))
    assert first.status_code == 200
    return first.text


def test_a_browser_that_the_proxy_signed_in_gets_a_session_with_its_role(client: TestClient) -> None:
    assert "ann@example.org (run)" in signed_in(client, "ann@example.org", "/searches/birds")
    client.cookies.clear()
    assert "boss@example.org (admin)" in signed_in(client, "boss@example.org")


@pytest.mark.parametrize(
    "headers",
    [by_proxy("ann@example.org", "q" * 32), by_proxy("ann@example.org", ""), by_proxy(""), by_proxy("a b"), HTML],
    ids=["another secret", "no secret", "no user", "not a name", "no header"],
)
def test_nobody_else_is_signed_in(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/", headers=headers).status_code == 401
    assert client.get("/api/v1/experiments", headers=headers).status_code == 401
    assert not client.cookies


def test_a_session_ends_when_the_proxy_names_somebody_else_or_nobody(client: TestClient) -> None:
    signed_in(client, "ann@example.org")
    assert client.get("/api/v1/experiments").status_code == 401
    assert client.get("/", headers=HTML).status_code == 401
    assert "bob (run)" in signed_in(client, "bob")


def test_changes_take_the_csrf_token_and_the_owner(client: TestClient) -> None:
    ann = by_proxy("ann@example.org")
    page = signed_in(client, "ann@example.org", "/searches/birds")
    [csrf, *_] = re.findall(r'name="csrf" value="([^"]+)"', page)
    assert client.post("/searches/birds/resume", data={}, headers=ann).status_code == 403
    sent = client.post("/searches/birds/resume", data={"csrf": csrf}, headers=ann, follow_redirects=False)
    assert (sent.status_code, sent.headers["location"]) == (303, "/searches/birds?flash=resumed")
    assert client.post("/searches/birds/resume", data={"csrf": csrf}, headers=by_proxy("bob")).status_code != 303


def test_signing_out_leads_to_the_proxy(client: TestClient) -> None:
    [csrf, *_] = re.findall(r'name="csrf" value="([^"]+)"', signed_in(client, "ann@example.org"))
    out = client.post("/logout", data={"csrf": csrf}, headers=by_proxy("ann@example.org"), follow_redirects=False)
    assert (out.status_code, out.headers["location"]) == (303, "/oauth2/sign_out")


@pytest.mark.parametrize("path", ["//evil.example/", "/%5Cevil.example", "///evil.example"])
def test_the_way_back_is_never_another_host(client: TestClient, path: str) -> None:
    text = client.get(f"http://127.0.0.1{path}", headers=by_proxy("ann@example.org")).text
    assert not re.search(r"url=(//|/\\|https?:)", text)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(RequestError, match="set TUNE_MENTORMIX_PROXY_SECRET to 24 characters at least"):
        SingleSignOn(HEADER, "short", "run", [], None)
    for wrong in ({"sign_in_header": "a b"}, {"sign_out_path": "https://evil"}, {"sign_out_path": "//evil"}):
        with pytest.raises(
            RequestError, match=f"^{next(iter(wrong))}:? must be (the name of a header|a path on this host) such as "
        ):
            read_server_settings(None, wrong)
