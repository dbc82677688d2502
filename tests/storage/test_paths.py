"""Places to store experiments: which are taken, and the errors of those that cannot be used."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.object_store import BUCKET, ObjectStore
from tests.support.simulated_search import simulate_search
from tune_mentormix.cli.app import run
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.storage.paths import RemotePath, as_location


@pytest.mark.parametrize("text", ["/data/a", "file:///data/a", Path("/data/a")])
def test_a_folder_is_a_folder_in_whatever_way_it_is_named(text: str | Path) -> None:
    assert as_location(text) == Path("/data/a")


def test_the_home_folder_has_its_short_name() -> None:
    assert as_location("~/a") == Path.home() / "a"
    assert SearchSettings.model_validate({"storage": "~/a"}).storage == Path.home() / "a"


def test_an_uri_survives_a_round_trip_through_settings() -> None:
    uri = "s3://bucket/a/b?endpoint_override=http://127.0.0.1:9000&scheme=http"
    settings = SearchSettings.model_validate({"storage": uri})
    assert settings.storage == RemotePath(uri)
    assert settings.model_dump(mode="json")["storage"] == uri


def test_a_remote_place_is_named_like_a_folder() -> None:
    path = RemotePath("s3://bucket/a?scheme=http") / "b" / "search.yaml"
    assert str(path) == "s3://bucket/a/b/search.yaml?scheme=http"
    assert (path.name, path.stem, path.parent.name) == ("search.yaml", "search", "b")
    assert str(RemotePath("gs://bucket") / "b") == "gs://bucket/b"


def test_what_is_written_is_read_listed_and_removed(object_store: ObjectStore) -> None:
    folder = RemotePath(object_store.uri("files"))
    assert not folder.exists()
    (folder / "a" / "x").write_bytes(b"one")
    (folder / "a" / "x").write_bytes(b"three")
    (folder / "y").write_bytes(b"")
    assert (folder / "a" / "x").read_text() == "three"
    assert (folder / "a" / "x").stat().st_size == 5
    assert (folder / "a" / "x").key == f"{BUCKET}/files/a/x"
    assert sorted(found.name for found in folder.iterdir()) == ["a", "y"]
    assert folder.exists()
    assert not folder.is_file()
    (folder / "y").unlink()
    (folder / "y").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (folder / "y").unlink()
    with pytest.raises(FileNotFoundError):
        (folder / "y").read_bytes()


@pytest.mark.parametrize(
    ("storage", "complaint"),
    [
        ("ftp://host/a", "unknown kind of storage 'ftp://'"),
        ("s4://bucket/a", "did you mean 's3://'?"),
        ("s3:///a", "must name a bucket"),
        ("s3://key:secret@bucket/a", "must hold no credentials"),
        ("s3://key@bucket/a", "must hold no credentials"),
        ("s3://bucket/a?secret_key=x", "must hold no credentials"),
        ("s3://bucket/a?endpoint_override=http://key:secret@host", "must hold no credentials"),
    ],
)
@pytest.mark.parametrize("command", ["search", "status a", "list", "resume a"])
def test_a_storage_that_cannot_be_used_is_one_line(
    storage: str, complaint: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command.split(), "--storage", storage]) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert "--storage" in printed.err
    assert printed.err.strip().count("\n") == 0
    assert "secret@" not in printed.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "storage",
    [
        "s3://bucket/a?colour=red",
        "s3://bucket/a?endpoint_override=http://127.0.0.1:9&scheme=http",
        "gs://anonymous@bucket/a?endpoint_override=127.0.0.1:9&scheme=http",
    ],
)
def test_a_store_that_cannot_be_reached_is_one_line(storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "a", "--storage", storage]) == 2
    printed = capsys.readouterr().err
    assert "bucket cannot be used: " in printed
    assert printed.strip().count("\n") == 0


@pytest.mark.parametrize("command", ["search --name a", "status a", "list"])
def test_a_bucket_that_is_not_there_is_named(
    object_store: ObjectStore, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command.split(), "--storage", object_store.uri("a", bucket="missing")]) == 2
    assert "there is no bucket 'missing'" in capsys.readouterr().err


def test_an_experiment_that_is_not_there_is_named(
    object_store: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "a", "--storage", object_store.uri("empty")]) == 2
    assert "there is no experiment 'a'" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["list"], ["status", "done"]])
def test_a_folder_needs_no_pyarrow(tmp_path: Path, command: list[str]) -> None:
    simulate_search(tmp_path, "done", 2)
    arguments = [*command, "--storage", str(tmp_path)]
    code = f"import sys; from tune_mentormix.cli.app import run; assert run({arguments!r}) == 0"
    code += "; print('pyarrow' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.splitlines()[-1] == "False"
