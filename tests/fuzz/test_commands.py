"""Commands that are given anything: they end in time, with a known exit code and at most one line of error.

`make fuzz` tries thousands. What once failed is kept as an example.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.fuzz import strategies
from tests.fuzz.command_process import CommandProcess
from tests.fuzz.properties import complaints, tree

pytestmark = pytest.mark.slow
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "3"))
tried = hypothesis_settings(
    max_examples=EXAMPLES,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
READING = (
    *("status birds", "status birds --json", "trials birds", "trials birds --json", "trials birds --csv", "list"),
    *("trials birds --sort val_accuracy --limit 3", "list --json"),
    *("gc", "gc --json", "gc birds --yes", "repair birds"),
    *("compare birds gulls", "compare birds gulls --json", "report birds --out r.html", "export birds --out new"),
    *("export birds --study s.log", "export birds --out new --method mentormix"),
    *("resume birds", "resume birds --trials 9"),
    *("confirm birds", "confirm birds --json", "confirm birds --seeds 3"),
    *("confirm birds --ablate", "delete birds --yes"),
    *("search --start-from results/birds --name new",),
    *("search --exist-ok --name birds", "logs birds", "jobs", "stop birds"),
)
OF_SETTINGS = ("search", "search --dry-run", "submit x", "serve --tokens none")
OF_EXPORTS = (
    *("train best --out new", "evaluate best", "evaluate best --json", "predict best x.png"),
    *("search --start-from best",),
)
JOURNAL, SETTINGS = "results/birds/journal.jsonl", "results/birds/search.yaml"
LABEL_NOISE = "results/birds/label_noise.json"
REQUEST = "results/birds/confirmation/confirmation.yaml"
EVALUATIONS = "results/birds/confirmation/test_evaluations.jsonl"
SEARCH_FILES: dict[str, Callable[[bytes], st.SearchStrategy[bytes]]] = {
    JOURNAL: strategies.changed_lines,
    "results/gulls/journal.jsonl": strategies.changed_lines,
    SETTINGS: strategies.changed_yaml,
    LABEL_NOISE: strategies.changed_json,
    REQUEST: strategies.changed_yaml,
    "results/birds/confirmation/journal.jsonl": strategies.changed_lines,
    EVALUATIONS: strategies.changed_lines,
    "results/birds/runs/1/trial-0000/checkpoint_000000/manifest.json": strategies.changed_json,
}
EXPORT_FILES: dict[str, Callable[[bytes], st.SearchStrategy[bytes]]] = {
    "best/best_config.yaml": strategies.changed_yaml,
    "best/provenance.json": strategies.changed_json,
}


@dataclass(frozen=True)
class Replacement:
    """A file of the template with other content."""

    name: str
    content: bytes

    def apply(self, folder: Path) -> None:
        """Writes the file."""
        (folder / self.name).write_bytes(self.content)


@dataclass(frozen=True)
class Edit:
    """A file of the template with one text in it replaced by another."""

    name: str
    old: str
    new: str

    def apply(self, folder: Path) -> None:
        """Changes the file."""
        text = (folder / self.name).read_text()
        assert self.old in text
        (folder / self.name).write_text(text.replace(self.old, self.new, 1))


Run = Callable[[str | list[str], Callable[[Path], object]], None]


@cache
def template() -> Path:
    """A folder with searches and an export, made once; its files are copied, and changed in the copies."""
    from tests.fuzz.experiments import make_storage  # imports torch

    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, folder)
    return make_storage(folder)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Runs a command in a folder with searches in which something was changed, and holds it to the properties."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "home").mkdir()
    process = CommandProcess(folder / "home")

    def run_one(words: str | list[str], change: Callable[[Path], object]) -> None:
        place = folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(template(), place)
        change(place)
        before = tree(place)
        outcome = process.run(words.split() if isinstance(words, str) else words, place)
        found = complaints(outcome, before, tree(place))
        assert not found, f"{found} by {outcome}"

    yield run_one
    process.stop()


def changes(files: dict[str, Callable[[bytes], st.SearchStrategy[bytes]]]) -> st.SearchStrategy[Replacement]:
    """One of these files after a change."""
    return st.sampled_from(sorted(files)).flatmap(
        lambda name: files[name]((template() / name).read_bytes()).map(lambda content: Replacement(name, content))
    )


def nothing(_folder: Path) -> None:
    """Changes nothing."""


@tried
@given(content=strategies.settings_files(), command=st.sampled_from(OF_SETTINGS))
@example(b"epochs: !!bool maybe\n", "search")
@example(b"name: !!timestamp x\n", "serve --tokens none")
@example(b"? {a: b}\n: 1\nformat: 1\n", "search")
def test_any_settings_file(run: Run, content: bytes, command: str) -> None:
    run([*command.split(), "--config", "s.yaml"], Replacement("s.yaml", content).apply)


@tried
@given(words=strategies.command_lines(), command=st.sampled_from(["search", "search --dry-run", "submit x"]))
@example(["--image-size", "false"], "submit x")
@example(["--patience", "false"], "submit x")
@example(["--epoch-budget", "{burn_in: {low: 0, high: 20}}", "extra"], "search")
@example(["--noise", "half"], "search")
@example(["--set", "name=!!timestamp x"], "search")
def test_any_options_of_a_search(run: Run, words: list[str], command: str) -> None:
    run([*command.split(), *words], nothing)


@tried
@given(words=strategies.other_command_lines())
@example(["trials", "birds", "--limit", "x"])
@example(["trials", "birds", "--limit", "0"])
@example(["confirm", "birds", "--top-k", "1.5"])
@example(["export", "birds", "--out", "new", "--weights", "lst"])
@example(["serve", "--port", "99999"])
@example(["evaluate", "best", "--split", "tst"])
def test_any_words_of_another_command(run: Run, words: list[str]) -> None:
    run(words, nothing)


@tried
@given(command=st.sampled_from(READING), change=changes(SEARCH_FILES))
@example("repair birds", Edit(SETTINGS, "noise: 0.4", "noise: []"))
@example("gc", Replacement(REQUEST, b"format: 1\n"))
@example("gc --json", Edit(REQUEST, "name: published", "names: published"))
@example("export birds --out new", Edit(REQUEST, "search_accuracy: ", "search_accurazy: "))
@example("export birds --out new", Replacement(REQUEST, b"candidates: [x]\n"))
@example("export birds --out new", Edit(EVALUATIONS, '{"published": {', '{"published": 1, "x": {'))
@example("export birds --out new", Edit(EVALUATIONS, ": 0.9", ': "x"'))
@example("export birds --out new", Edit(SETTINGS, "tune-mentormix: ", "mentormix: "))
@example("gc birds --yes", Edit(SETTINGS, "host: worker-1", "host: [1]"))
@example("report birds --out r.html", Edit(LABEL_NOISE, "[[0.61", "[0.5, [0.61"))
@example("trials birds", Edit(JOURNAL, "val_loss is nan", "\\u001b[31mred"))
@example("gc birds --yes", Replacement(REQUEST, b"<<: {epochs: 3}\nmax_concurrent: 1000000000\nspace: {}\n"))
@example("gc birds --yes", Replacement(REQUEST, b"? {a: b}\n: 1\n"))
@example("resume birds", Edit(SETTINGS, "fingerprint: ", "fingerprint: 0"))
@example("report birds --out r.html", Edit(JOURNAL, '"event": "proposed"', '"event": "ü\u2028"'))
@example("report birds --out r.html", Edit(JOURNAL, '"trial": 1, "run": 1, ', '"trial": 1, '))
def test_any_change_of_a_searchs_files(run: Run, command: str, change: Edit | Replacement) -> None:
    run(command, change.apply)


@tried
@given(command=st.sampled_from(OF_EXPORTS), change=changes(EXPORT_FILES))
@example("train best --out new", Edit("best/best_config.yaml", "fingerprint: ", "fingerprint: 0"))
def test_any_change_of_an_exports_files(run: Run, command: str, change: Edit | Replacement) -> None:
    run(command, change.apply)


@pytest.mark.parametrize("how", ["removed", "a folder", "a link to itself", "a link to nothing", "a pipe"])
@pytest.mark.parametrize("name", sorted(SEARCH_FILES | EXPORT_FILES))
def test_what_is_no_file(run: Run, name: str, how: str) -> None:
    command = "train best" if name in EXPORT_FILES else "export birds --out new"
    run(command, lambda folder: replace(folder / name, how))


def replace(path: Path, how: str) -> None:
    """Puts something that is no file in the place of one."""
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how.startswith("a link"):
        path.symlink_to(path if how == "a link to itself" else path.with_name("gone"))
    elif how == "a pipe":
        os.mkfifo(path)
