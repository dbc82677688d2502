"""What is refused before a cluster is asked, and clusters that are none: from the command line, without Ray."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.object_store import ObjectStore
from tune_mentormix.cli.app import run
from tune_mentormix.cluster.jobs import ClusterJobs
from tune_mentormix.cluster.jobs_api import jobs_address
from tune_mentormix.cluster.submissions import delete_submission, latest_submission, record_submission
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.storage.paths import RemotePath

DEAD = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def refusal(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused command prints."""
    assert run(command) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    return said.err


@contextmanager
def dashboard(host: str, answer: str, status: int = 200) -> Iterator[str]:
    """Answers every question as a dashboard answers how to authenticate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer((host, 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def address_of_this_machine() -> str:
    """Where others would reach it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but loopback")
        return str(probe.getsockname()[0])


def test_the_address_is_the_options_then_the_environments_then_rays_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert jobs_address(None) == "http://127.0.0.1:8265"
    monkeypatch.setenv("RAY_ADDRESS", "http://b:1/")
    assert jobs_address(None) == "http://b:1"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "https://a:1")
    assert jobs_address(None) == "https://a:1"
    assert jobs_address("http://c:1") == "http://c:1"


@pytest.mark.parametrize(
    "address",
    ["auto", "a:6379", "ray://a:10001", "http://", "http://a:port", "http://me:secret@a", "http://a/?b"],
)
def test_an_address_that_is_no_dashboards_is_refused(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal(["jobs", "--dashboard", address, "--storage", str(tmp_path)], capsys)
    assert "is that of its dashboard, like http://127.0.0.1:8265" in said


def test_where_no_cluster_answers_nothing_is_left_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["submit", "--name", "birds"], ["submit"]):
        said = refusal([*command, "--dashboard", DEAD, "--storage", str(tmp_path / "s")], capsys)
        assert f"no Ray cluster answers at {DEAD} (--dashboard): Connection refused" in said
    assert not (tmp_path / "s").exists()


def test_a_server_that_is_no_dashboard_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for answer, status in (("hello", 200), ("{}", 200), ("[]", 200), ("", 404), ("", 500)):
        with dashboard("127.0.0.1", answer, status) as address:
            said = refusal(["submit", "--dashboard", address, "--storage", str(tmp_path)], capsys)
        assert f"{address} (--dashboard) is not the dashboard of a Ray cluster" in said


def test_an_unauthenticated_cluster_is_refused_without_insecure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with dashboard(address_of_this_machine(), json.dumps({"authentication_mode": "disabled"})) as address:
        options = ["--dashboard", address, "--storage", str(tmp_path)]
        said = refusal(["submit", *options], capsys)
        assert "has no authentication: start it with RAY_AUTH_MODE=token, or add --insecure" in said
        assert "has no authentication" not in refusal(["submit", "--insecure", *options], capsys)


def test_a_folder_of_this_machine_is_no_storage_for_a_cluster_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(["submit", "--dashboard", "http://192.0.2.1:8265", "--storage", "here"], capsys)
    assert "storage here is a folder of this machine, and the cluster is at http://192.0.2.1:8265" in said
    assert "absolute path on NFS, or s3://…" in said
    assert ClusterJobs(DEAD, Path("here")).storage == Path("here").absolute(), "drivers run in other folders"


@pytest.mark.parametrize("name", ["../x", "a/b", "", "x" * 65, "$(x)"])
def test_an_unsafe_name_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--dashboard", DEAD, "--storage", str(tmp_path)]
    for command in (["submit", name], ["resume", name, "--submit"], ["logs", name], ["stop", name]):
        assert "name must be up to 64 letters" in refusal([*command, *options], capsys).replace("name: ", "name ")


def test_a_search_that_was_never_submitted_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["resume", "birds", "--submit"],
        ["submit", "--resume", "birds"],
        ["logs", "birds"],
        ["stop", "birds"],
    ):
        said = refusal([*command, "--dashboard", DEAD, "--storage", str(tmp_path)], capsys)
        assert "birds was never submitted into" in said


def test_a_resume_changes_only_what_may_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in (["--network", "resnet32"], ["--set", "batch_size=8"], ["--name", "other"]):
        said = refusal(["submit", "--resume", "birds", *option, "--storage", str(tmp_path)], capsys)
        assert f"{option[0]} cannot change in a resume" in said


def test_a_driver_that_sees_another_storage_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record_submission(tmp_path / "here", "birds", DEAD, "search", SearchSettings(), {})
    said = refusal(["submitted", "birds", "1", "--storage", str(tmp_path / "there")], capsys)
    assert "sees another storage than the one that birds was submitted from" in said


@pytest.mark.parametrize("kind", ["folder", "object store"])
def test_without_its_cluster_the_storage_tells_what_was_submitted(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    store: ObjectStore | None = request.getfixturevalue("object_store") if kind == "object store" else None
    storage = RemotePath(store.uri("submitted")) if store else tmp_path
    records = [record_submission(storage, "birds", DEAD, "search", SearchSettings(), {"epochs": 7}) for _ in range(3)]
    assert [record.number for record in records] == [1, 2, 3]
    delete_submission(storage, records[-1])
    assert latest_submission(storage, "birds") == records[1]
    assert run(["jobs", "--dashboard", DEAD, "--storage", str(storage)]) == 0
    said = capsys.readouterr()
    assert "birds  search  interrupted" in said.out
    assert "showing what is recorded in the storage" in said.err
    assert run(["list", "--json", "--storage", str(storage)]) == 0
    assert json.loads(capsys.readouterr().out) == [], "there is no experiment yet"


def test_a_record_of_another_form_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / ".submissions" / "birds"
    folder.mkdir(parents=True)
    for text, reason in (("a: 1\n", "is not a submission"), ("format: 99\n", "upgrade"), ("{", "is not YAML")):
        (folder / "0001.yaml").write_text(text)
        assert reason in refusal(["submitted", "birds", "1", "--storage", str(tmp_path)], capsys)
