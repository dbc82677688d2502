"""Who may do what: tokens, roles, sessions, forms, and how often and how much."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from starlette.testclient import TestClient

from tests.service.conftest import READ, RUN, Serve, Served, bearer, sign_in
from tests.support.served_process import served_process
from tune_mentormix.errors import RequestError
from tune_mentormix.service.settings import read_server_settings

HTML = {"Accept": "text/html"}
OPEN = {"/healthz", "/login", "/assets/birds"}  # with the name filled in
SEARCH = {"name": "new", "num_samples": 4, "epochs": 2}


def routes(served: Served) -> list[tuple[str, str]]:
    """Every method and path that the service has, with names filled in."""
    app: Any = served.client.app
    while not hasattr(app, "routes"):
        app = app.app  # the middleware around the application
    found: list[tuple[str, str]] = []

    def walk(routes: list[Any]) -> None:
        for route in routes:
            inner = getattr(getattr(route, "original_router", None), "routes", None)
            if inner:
                walk(inner)
            else:
                path = re.sub(r"\{[^}]+\}", lambda part: "1" if "number" in part[0] else "birds", route.path)
                found.extend((method, path) for method in route.methods)

    walk(app.routes)
    return found


def test_no_route_is_open_but_those_that_must_be(served: Served) -> None:
    answers = [(path, served.client.request(method, path).status_code) for method, path in routes(served)]
    assert {path for path, status in answers if status != 401} == OPEN


def test_every_route_without_a_token_is_refused(served: Served) -> None:
    found = [(method, path) for method, path in routes(served) if path not in OPEN]
    assert len(found) > 25
    for method, path in [*found, ("GET", "/nothing"), ("DELETE", "/api/v1/experiments/birds"), ("PUT", "/x")]:
        for headers in ({}, bearer("wrong" * 8), {"Authorization": "Basic abc"}, {"Cookie": "session=wrong"}):
            answer = served.client.request(method, path, headers=headers)
            assert answer.status_code == 401, (method, path, headers)
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_with_a_read_token_every_change_is_refused(served: Served) -> None:
    found = [(method, path) for method, path in routes(served) if path not in OPEN]
    changes = [(method, path) for method, path in found if method not in ("GET", "HEAD")]
    assert len(changes) >= 6
    for method, path in [*changes, ("DELETE", "/api/v1/experiments/birds"), ("POST", "/api/studies")]:
        assert served.client.request(method, path, headers=bearer(READ)).status_code == 403, (method, path)
    assert not served.jobs.known


def test_a_body_is_not_read_before_its_sender_may_send_it(serve: Serve) -> None:
    served = serve(max_body=1_000)
    for path in ("/api/v1/experiments", "/api/v1/experiments/birds/resume", "/submit"):
        for body in (b"x" * 2_000, b"{not json", b""):
            headers = {"Content-Type": "application/json"}
            assert served.client.post(path, content=body, headers=headers).status_code == 401
            assert served.client.post(path, content=body, headers=headers | bearer(READ)).status_code == 403


def test_a_run_token_submits_stops_and_resumes(served: Served) -> None:
    assert served.post("/api/v1/experiments", SEARCH).status_code == 202
    assert served.post("/api/v1/experiments", SEARCH).status_code == 409  # the name is taken
    assert served.get("/api/v1/jobs").json()["jobs"][0]["state"] == "pending"
    assert served.post("/api/v1/experiments/new/stop", {}).status_code == 202
    assert served.post("/api/v1/experiments/birds/resume", {"num_samples": 20}).status_code == 202
    assert served.jobs.changes == [("birds", {"num_samples": 20, "max_concurrent": 8, "time_budget": 86_400.0})]


def test_health_needs_no_token_and_reveals_nothing(served: Served) -> None:
    answer = served.client.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")


def test_a_browser_without_a_session_gets_the_page_to_sign_in(served: Served) -> None:
    answer = served.client.get("/searches/birds", headers=HTML)
    assert answer.status_code == 401
    assert 'action="/login"' in answer.text
    assert "birds" not in answer.text


def test_the_session_cookie_is_for_this_site_and_not_for_scripts(serve: Serve) -> None:
    for https in (False, True):
        answer = serve(https=https).client.post("/login", data={"token": READ}, follow_redirects=False)
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert ("secure" in cookie) == https


def test_a_form_without_its_token_changes_nothing(served: Served) -> None:
    csrf = sign_in(served.client, RUN)
    for wrong in ({}, {"csrf": ""}, {"csrf": "wrong"}, {"csrf": csrf[:-1]}):
        assert served.client.post("/submit", data=wrong | {"name": "x"}).status_code == 403
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert served.client.post("/submit", data={"csrf": csrf, "name": "x"}, headers=elsewhere).status_code == 403
    assert served.client.post("/api/v1/experiments", json=SEARCH).status_code == 403  # a session and no token
    assert not served.jobs.known
    sent = served.client.post("/submit", data={"csrf": csrf, "name": "x", "epochs": "3"}, follow_redirects=False)
    assert sent.status_code == 303
    assert served.jobs.submitted[0].epochs == 3


def test_a_form_that_is_wrong_shows_why_and_keeps_what_was_entered(served: Served) -> None:
    csrf = sign_in(served.client, RUN)
    answer = served.client.post("/submit", data={"csrf": csrf, "name": "kept", "epochs": "many"}, headers=HTML)
    assert answer.status_code == 422
    assert "epochs must be a whole number" in answer.text
    assert 'value="kept"' in answer.text


def test_stop_and_resume_by_form(served: Served) -> None:
    csrf = sign_in(served.client, RUN)
    assert served.client.post("/searches/cut/resume", data={"csrf": csrf}).status_code == 200
    assert served.jobs.changes[0][0] == "cut"
    assert served.client.post("/searches/cut/stop", data={"csrf": csrf}).status_code == 200
    assert served.jobs.known["cut"].state == "interrupted"


def test_signing_out_ends_the_session(served: Served) -> None:
    csrf = sign_in(served.client, READ)
    cookie = served.client.cookies["session"]
    assert served.client.post("/logout", data={"csrf": csrf}, follow_redirects=False).status_code == 303
    assert served.client.get("/", headers={"Cookie": f"session={cookie}"}).status_code == 401


def test_a_session_ends_by_itself(serve: Serve) -> None:
    served = serve(session_time="0.01s")
    served.client.post("/login", data={"token": READ}, follow_redirects=False)
    assert served.client.get("/").status_code == 401


def test_guessing_tokens_is_slowed_down(serve: Serve) -> None:
    served = serve(logins_per_minute=3)
    statuses = [served.client.post("/login", data={"token": "x"}).status_code for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]


def test_too_many_requests_with_one_token_are_refused_and_others_are_not(serve: Serve) -> None:
    served = serve(burst=5, requests_per_second=0.5)
    statuses = [served.get("/api/v1/jobs").status_code for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
    assert int(served.get("/api/v1/jobs").headers["Retry-After"]) >= 1
    assert served.get("/api/v1/jobs", RUN).status_code == 200
    stops = [served.post("/api/v1/experiments/birds/stop", {}).status_code for _ in range(6)]
    assert stops == [409] * 4 + [429] * 2, "a change counts once, too"


def test_a_body_over_the_limit_is_refused_whether_it_names_its_length_or_not(serve: Serve) -> None:
    served = serve(max_body=1_000)

    def chunks() -> Iterator[bytes]:
        yield from (b"x" * 600 for _ in range(3))

    for content in (b"x" * 1_001, chunks()):
        answer = served.client.post("/api/v1/experiments", content=content, headers=bearer(RUN))
        assert answer.status_code == 413
    assert served.client.post("/login", data={"token": "x" * 2_000}).status_code == 413


def test_a_yaml_bomb_is_no_json_and_is_refused(served: Served) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b]\n"
    for kind in ("application/json", "application/yaml", "text/plain"):
        headers = bearer(RUN) | {"Content-Type": kind}
        assert served.client.post("/api/v1/experiments", content=bomb, headers=headers).status_code == 422
    deep = '{"name": "x", "space": ' + "[" * 50_000 + "]" * 50_000 + "}"
    assert served.client.post("/api/v1/experiments", content=deep, headers=bearer(RUN)).status_code == 422


@pytest.mark.parametrize(
    "name",
    [
        "../birds",
        "%2e%2e",
        "..%2fbirds",
        "%2fetc%2fpasswd",
        "birds%00",
        "x" * 10_000,
        ".hidden",
        "a b",
        "a%0Ab",
        "é",
    ],
)
def test_no_name_leads_out_of_the_storage(served: Served, simulated_storage: Path, name: str) -> None:
    before = sorted(simulated_storage.parent.rglob("*"))
    for path in (f"/api/v1/experiments/{name}", f"/searches/{name}", f"/api/v1/experiments/{name}/trials"):
        assert 400 <= served.get(path).status_code < 500, path
    for action in ("stop", "resume"):
        assert 400 <= served.post(f"/api/v1/experiments/{name}/{action}", {}).status_code < 500
    assert 400 <= served.post("/api/v1/experiments", SEARCH | {"name": name}).status_code < 500
    assert 400 <= served.get(f"/assets/{name}").status_code < 500
    assert sorted(simulated_storage.parent.rglob("*")) == before
    assert not served.jobs.known


def test_no_token_is_ever_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        sign_in(served.client, RUN)
        served.get("/api/v1/experiments/birds/trials/1?token=" + RUN)
        served.client.get("/", headers=bearer("secret" * 8))
    logged = "\n".join(str(vars(record)) for record in caplog.records if record.name.startswith("tune"))
    assert "'experiment': 'birds', 'trial': '1'" in logged
    assert RUN not in logged
    assert "secretsecret" not in logged


def test_failed_logins_of_others_lock_out_neither_another_address_nor_a_known_user_of_this_one(serve: Serve) -> None:
    served = serve(logins_per_minute=3)

    def login(token: str, address: str) -> int:
        client = TestClient(served.client.app, client=(address, 50_000))
        return client.post("/login", data={"token": token}, follow_redirects=False).status_code

    assert login(READ, "192.0.2.1") == 303
    assert [login("wrong", "192.0.2.1") for _ in range(5)] == [401, 401, 401, 429, 429]
    assert login(READ, "192.0.2.1") == 303, "its user was there before"
    assert login(RUN, "192.0.2.1") == 429, "a guess that is right tells no more than one that is wrong"
    assert login(RUN, "192.0.2.2") == 303
    assert [login("wrong", f"2001:db8::{host}") for host in range(5)] == [401, 401, 401, 429, 429], "one /64 network"
    assert login("wrong", "2001:db8:0:1::1") == 401


FORWARDED = "X-Forwarded-For"


@pytest.mark.parametrize("trusted", [["127.0.0.1"], ["127.0.0.0/8"]])
def test_behind_a_trusted_proxy_failed_logins_count_for_the_real_address(
    simulated_storage: Path, tmp_path: Path, trusted: list[str]
) -> None:
    log = tmp_path / "log"
    with served_process(simulated_storage, log, logins_per_minute=3, trusted_proxies=trusted) as served:

        def login(token: str, forwarded: str) -> int:
            answer = httpx.post(f"{served.url}/login", data={"token": token}, headers={FORWARDED: forwarded})
            return answer.status_code

        assert [login("wrong", "192.0.2.1") for _ in range(5)] == [401, 401, 401, 429, 429]
        assert login(READ, "192.0.2.2") == 303
        assert [login("wrong", f"198.51.100.{n}, 192.0.2.1") for n in range(3)] == [429] * 3, (
            "only what the proxy adds"
        )
    assert '"client": "192.0.2.2"' in log.read_text()


@pytest.mark.parametrize("trusted", [[], ["192.0.2.77"]])
def test_nobody_but_a_trusted_proxy_chooses_an_address(
    simulated_storage: Path, tmp_path: Path, trusted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")  # uvicorn's own, which would trust everybody
    log = tmp_path / "log"
    with served_process(simulated_storage, log, logins_per_minute=3, trusted_proxies=trusted) as served:
        statuses = [
            httpx.post(
                f"{served.url}/login", data={"token": "wrong"}, headers={FORWARDED: f"192.0.2.{n}"}
            ).status_code
            for n in range(5)
        ]
    assert statuses == [401, 401, 401, 429, 429]
    assert '"client": "192.0.2.' not in log.read_text()


@pytest.mark.parametrize("wrong", ["*", "proxy.example.org", "10.0.0.1/8", ""])
def test_a_trusted_proxy_is_an_address_or_a_network(wrong: str) -> None:
    with pytest.raises(RequestError, match=r"trusted_proxies.* such as 10\.0\.0\.0/8"):
        read_server_settings(None, {"trusted_proxies": [wrong]})
