"""Tokens come from a file that no other user can read, or from the environment; beyond loopback they are required."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from tune_mentormix.cli.app import run
from tune_mentormix.errors import RequestError
from tune_mentormix.service.auth import Principal, make_tokens, read_tokens
from tune_mentormix.service.server import BindAddress, load_tokens

TOKEN = "t" * 30


def tokens_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "tokens"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_a_file_and_the_environment_name_owners_and_roles(tmp_path: Path) -> None:
    file = tokens_file(tmp_path, f"# who\n\nrun alice {TOKEN}\nread bob {'b' * 30}\n")
    tokens = read_tokens(file, {"TUNE_MENTORMIX_READ_TOKEN": "e" * 30})
    assert tokens.principal(TOKEN) == Principal("alice", "run")
    assert tokens.principal("b" * 30) == Principal("bob", "read")
    assert tokens.principal("e" * 30) == Principal(getpass.getuser(), "read")
    assert tokens.principal("") is None
    assert tokens.principal(TOKEN[:-1]) is None


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(RequestError, match="chmod 600"):
        read_tokens(tokens_file(tmp_path, f"run alice {TOKEN}\n", mode), {})


@pytest.mark.parametrize("line", ["run alice short", f"owner alice {TOKEN}", f"run {TOKEN}", f"run a b {TOKEN}"])
def test_a_wrong_line_is_named_without_its_token(tmp_path: Path, line: str) -> None:
    with pytest.raises(RequestError) as refused:
        read_tokens(tokens_file(tmp_path, line + "\n"), {})
    assert "line 1" in str(refused.value)
    assert TOKEN not in str(refused.value)


def test_made_tokens_are_the_owners_alone_and_stay(tmp_path: Path) -> None:
    file = tmp_path / "new" / "tokens"
    make_tokens(file)
    assert file.stat().st_mode & 0o777 == 0o600
    written = file.read_text()
    principals = [read_tokens(file, {}).principal(line.split()[2]) for line in written.splitlines()[1:]]
    assert principals == [Principal(getpass.getuser(), role) for role in ("read", "run", "admin")]
    make_tokens(file)
    assert file.read_text() == written


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user without tokens."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for role in ("READ", "RUN", "ADMIN"):
        monkeypatch.delenv(f"TUNE_MENTORMIX_{role}_TOKEN", raising=False)
    return tmp_path


def test_on_loopback_tokens_are_made_where_there_are_none(nobody: Path) -> None:
    assert len(load_tokens(BindAddress("127.0.0.1", 1), None)) == 3
    assert (nobody / ".config/tune-mentormix/tokens").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_beyond_loopback_nothing_starts_without_tokens(nobody: Path, host: str) -> None:
    with pytest.raises(RequestError, match="there is no token"):
        load_tokens(BindAddress(host, 1), None)
    assert not (nobody / ".config").exists()


def test_the_command_refuses_in_one_line_and_takes_no_token(nobody: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "--host", "0.0.0.0"]) == 2
    assert run(["serve", "--certificate", "x"]) == 2
    assert run(["serve", "--config", str(nobody / "none.yaml")]) == 2
    assert run(["serve", "--token", TOKEN]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 4
    assert TOKEN not in "".join(errors)
