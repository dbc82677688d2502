"""What tests of the service share: searches that were simulated, and a service with one token of each role."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from tests.support.in_memory_jobs import InMemoryJobs
from tests.support.simulated_search import SimulatedFailures, simulate_search
from tune_mentormix.cluster.jobs import ClusterJobs
from tune_mentormix.service.app import make_app
from tune_mentormix.service.auth import Principal, Tokens
from tune_mentormix.service.settings import ServerSettings
from tune_mentormix.storage.paths import Location

READ, RUN, STRANGER, ADMIN = "r" * 32, "w" * 32, "s" * 32, "a" * 32  # tokens
RUNNER = "runner"  # the owner of the searches and of the token RUN


TOKENS = Tokens(
    [
        (Principal("reader", "read"), READ),
        (Principal(RUNNER, "run"), RUN),
        (Principal("stranger", "run"), STRANGER),
        (Principal("boss", "admin"), ADMIN),
    ]
)


@dataclass(frozen=True)
class Served:
    """A service under test."""

    client: TestClient  # without a token
    jobs: InMemoryJobs  # where no other cluster was given
    storage: Location

    def get(self, path: str, token: str = READ) -> Response:
        """A GET with a token."""
        return self.client.get(path, headers=bearer(token))

    def post(self, path: str, json: object, token: str = RUN) -> Response:
        """A POST of JSON with a token."""
        return self.client.post(path, json=json, headers=bearer(token))


def bearer(token: str) -> dict[str, str]:
    """The header that a token is sent in."""
    return {"Authorization": f"Bearer {token}"}


def sign_in(client: TestClient, token: str) -> str:
    """Begins a session, and returns the CSRF token of its forms."""
    assert client.post("/login", data={"token": token}, follow_redirects=False).status_code == 303
    page = client.get("/", headers={"Accept": "text/html"})
    found = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert found, page.status_code
    return found[1]


@pytest.fixture(scope="session")
def simulated_storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three searches, which tests only read."""
    storage = tmp_path_factory.mktemp("served")
    failures = SimulatedFailures({1: "the loss became NaN", 2: "<script>alert(1)</script>"})
    simulate_search(storage, "birds", 12, failures=failures, owner=RUNNER)
    simulate_search(storage, "cut", 6, failures=SimulatedFailures({}, unfinished=(4,)), owner=RUNNER)
    damaged = storage / "damaged"
    damaged.mkdir()
    (damaged / "search.yaml").write_text("format: 1\nnum_samples: 2\n")
    (damaged / "journal.jsonl").write_text("no event\n")
    return storage


Serve = Callable[..., Served]


@pytest.fixture
def serve(simulated_storage: Path) -> Iterator[Serve]:
    """Starts a service in this process, with its own settings."""
    clients: list[TestClient] = []

    def start(storage: Location | None = None, cluster: ClusterJobs | None = None, **settings: object) -> Served:
        jobs = InMemoryJobs()
        chosen = ServerSettings.model_validate({"storage": storage or simulated_storage, "burst": 10_000} | settings)
        client = TestClient(make_app(chosen, TOKENS, cluster or jobs), raise_server_exceptions=True)
        client.__enter__()
        clients.append(client)
        return Served(client, jobs, storage or simulated_storage)

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def served(serve: Serve) -> Served:
    """A service on the simulated searches."""
    return serve()
