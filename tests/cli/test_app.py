import csv
import io
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.main import get_group

from tests.support.simulated_search import SimulatedFailures, simulate_search
from tune_mentormix import __version__
from tune_mentormix.cli.app import app, run, with_new_spellings
from tune_mentormix.cli.console import print_end
from tune_mentormix.config.settings_file import read_settings
from tune_mentormix.errors import DONE, FAILED, WRONG_REQUEST
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.search.dry_run import DryRun
from tune_mentormix.search.plan import check_request
from tune_mentormix.storage.lease import Lease

REPOSITORY = Path(__file__).parents[2]


def storage_of(experiment: Experiment) -> list[str]:
    return ["--storage", str(experiment.path.parent)]


def test_status_json_is_one_document_with_what_scripts_rely_on(
    finished_search: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["status", "done", "--json", *storage_of(finished_search)]) == DONE
    status = json.loads(capsys.readouterr().out)
    assert {"name", "state", "trials", "num_samples", "epochs_run", "best", "controls", "settings"} <= set(status)
    assert set(status["trials"]) == {"pending", "running", "stopped_early", "finished", "failed"}
    assert set(status["best"]) == {
        "trial_id",
        "val_accuracy",
        "epoch",
        "config",
        "clean_estimate",
        "noisy_val_accuracy",
        "score",
    }
    assert (status["split"], status["labels"]) == ("validation", "noisy")


def test_trials_json_lists_every_trial(finished_search: Experiment, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trials", "done", "--json", *storage_of(finished_search)]) == DONE
    trials = json.loads(capsys.readouterr().out)
    assert [trial["trial"] for trial in trials] == list(range(5))
    for trial in trials:
        assert {"trial", "state", "config", "curve", "restarts", "node", "error"} <= set(trial)
        assert trial["node"] == platform.node()
    assert list(trials[0]["curve"]) == ["1", "2", "3", "4"]


def test_list_json_is_statuses_without_settings(
    finished_search: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["list", "--json", *storage_of(finished_search)]) == DONE
    (status,) = json.loads(capsys.readouterr().out)
    assert status["name"] == "done"
    assert "settings" not in status


@pytest.mark.parametrize("command", [["status", "done"], ["trials", "done"], ["list"]])
def test_every_accuracy_printed_names_its_labels(
    finished_search: Experiment, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert run([*command, *storage_of(finished_search)]) == DONE
    assert "noisy" in capsys.readouterr().out


def test_an_empty_storage_folder_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--storage", str(tmp_path / "nothing")]) == DONE
    assert "no searches" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["serch"], "No such command 'serch'"),
        (["search", "--epoch", "3"], "No such option: --epoch"),
        (["search", "--trials", "many"], "num_samples must be a whole number of at least 1, got 'many' (--trials)"),
        (["search", "--trials", "0"], "num_samples must be a whole number of at least 1, got 0 (--trials)"),
        (["search", "--num-samples=0"], "got 0 (--trials)"),
        (["search", "--dataset", "digit"], "unknown dataset 'digit'; did you mean 'digits'?"),
        (["search", "--name", "../../x"], "name: must be up to 64 letters"),
        (["search", "--space", "defalt"], "did you mean 'default'?"),
        (["search", "--config", "nowhere.yaml"], "cannot read nowhere.yaml: No such file"),
        (["resume", "nobody"], "there is no experiment 'nobody'"),
        (["confirm", "nobody"], "there is no experiment 'nobody'"),
        (["status", "nobody"], "there is no experiment 'nobody'"),
        (["status", ".."], "name must be up to 64 letters"),
        (["report", "nobody"], "there is no experiment 'nobody'"),
        (["export", "nobody", "--out", "best"], "there is no experiment 'nobody'"),
        (["train", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["search", "--max-images", "100"], "batch_size must be at most the number of training images, 50, got 128"),
        (["search", "--dry-run", "--set", "batch_size=2000"], "the number of training images, 719, got 2000"),
        (
            ["search", "--epochs", "6", "--set", "warm_up_epochs=6"],
            "warm_up_epochs must be less than the 6 epochs of a trial, got 6",
        ),
        (
            ["search", "--set", "freeze_backbone_epochs=99999"],
            "freeze_backbone_epochs must be less than the 40 epochs of a trial, got 99999",
        ),
        (
            ["search", "--epochs", "1", "--preset", "finetune"],
            "than the 1 epochs of a trial, got 1 from preset finetune: lower it with --set warm_up_epochs=",
        ),
        (["search", "--data-dir", ""], "data_dir: must be a path that a file can have, got ''"),
        (["search", "--space", "x" * 5000], "space: must be a path that a file can have"),
        (["search", "--config", "~nobody-here/x"], "there is no user 'nobody-here'"),
        (["schema", "--out", ""], "must be a path that a file can have, got ''"),
        (["list", "--storage", "x" * 300], "storage: must be a path that a file can have"),
    ],
)
def test_a_wrong_request_is_one_line_on_stderr_and_creates_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == WRONG_REQUEST
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_failed_trial_is_told_and_only_when_all_fail_the_search_ends_with_1(
    ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "space.yaml").write_text("learning_rate: {choices: [1e30]}\n")
    (tmp_path / "search.yaml").write_text(f"max_images: 300\nspace: {tmp_path}/space.yaml\n")
    options = ["--epochs", "2", "--trials", "4", "--name", "bad", "--storage", str(tmp_path / "s")]
    config = ["--config", str(tmp_path / "search.yaml")]
    assert run(["search", *config, *options]) == DONE
    assert re.search(r"trial \d failed: \w+_loss is nan in epoch", capsys.readouterr().out)
    trials = read_experiment(tmp_path / "s", "bad").trials.values()
    (failed,) = (trial for trial in trials if trial.state == "failed")
    assert failed.attempt == 1, "what fails by its own fault is not tried again"
    (tmp_path / "space.yaml").write_text("burn_in: {low: 0, high: 5}\nlearning_rate: 1e30\n")
    options[options.index("bad")] = "worse"
    options[options.index("4")] = "50"
    assert run(["search", *config, *options]) == FAILED
    assert re.search(r"every trial failed; the first, trial \d: \w+_loss is nan in epoch", capsys.readouterr().err)
    hopeless = read_experiment(tmp_path / "s", "worse")
    assert (hopeless.ended, hopeless.num_samples) == ("all_failing", 50)
    assert len(hopeless.trials) <= 6, "it ends early"


@pytest.mark.parametrize(
    "command",
    [
        ["status", "done", "--json"],
        ["trials", "done"],
        ["list"],
        ["gc"],
        ["jobs", "--dashboard", "http://127.0.0.1:9"],
        ["--help"],
    ],
)
def test_reading_commands_import_neither_torch_nor_ray(finished_search: Experiment, command: list[str]) -> None:
    storage = [] if command == ["--help"] else storage_of(finished_search)
    code = f"import sys\nfrom tune_mentormix.cli.app import run\ncode = run({[*command, *storage]!r})\n"
    code += "assert code == 0\nassert not {'torch', 'ray', 'optuna'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("command", ["status done", "list", "trials done", "trials done --json"])
def test_looking_at_a_search_starts_fast(finished_search: Experiment, command: str) -> None:
    words = [*command.split(), *storage_of(finished_search)]
    code = f"import sys\nfrom tune_mentormix.cli.app import run\nassert run({words!r}) == 0\n"
    slow = {"scipy", "pyarrow", "torch", "ray", "optuna", "matplotlib", "fastapi"}
    slow |= set() if command == "status done" else {"numpy"}  # with which trials are compared image by image
    code += f"assert not {slow} & set(sys.modules), {slow} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)


COMMANDS = sorted(name for name, command in get_group(app).commands.items() if not command.hidden)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_explains_itself_and_ends_with_examples(
    command: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, option]) == DONE
    printed = capsys.readouterr().out
    assert "Usage" in printed
    assert "Examples" in printed.rpartition("╯")[2]


@pytest.mark.parametrize("words", [["-h"], ["--help"], []])
def test_the_program_alone_lists_its_commands(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tune_mentormix", *words], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert all(command in done.stdout for command in COMMANDS)
    assert [panel in done.stdout for panel in ("Search", "Results", "Use the model", "Cluster", "Team")] == [True] * 5


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == DONE
    assert capsys.readouterr().out == f"tune-mentormix {__version__}\n"


def test_true_defaults_and_choices_stand_in_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["search", "--help"]) == DONE
    shown = capsys.readouterr().out
    assert re.search(r"--trials .* including the controls\. .*\[default: 20\]", shown)
    assert "One of: tpe, gp, cmaes, random, grid, qmc." in shown
    assert "[env var: TUNE_MENTORMIX_STORAGE]" in shown
    assert not re.search(r"--num-samples|--address", shown), "old spellings are hidden"
    assert run(["resume", "--help"]) == DONE
    assert "default: 20" not in capsys.readouterr().out, "a resume keeps what the last run had"


def test_the_shell_can_complete_commands_choices_and_names(finished_search: Experiment) -> None:
    def completed(line: str) -> str:
        environment = os.environ | {
            "_TUNE_MENTORMIX_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(line.split(" ")) - 1),
            "TUNE_MENTORMIX_STORAGE": str(finished_search.path.parent),
        }
        code = "import sys; sys.argv = ['tune-mentormix']; from tune_mentormix.cli.app import main; main()"
        asked = [sys.executable, "-c", code]
        return subprocess.run(
            asked, capture_output=True, text=True, check=False, env=environment, cwd=REPOSITORY
        ).stdout

    assert completed("tune-mentormix sta").split() == ["status"]
    assert completed("tune-mentormix search --sampler c").split() == ["cmaes"]
    assert completed("tune-mentormix status d").split() == ["done"]


def test_the_environment_gives_the_storage_and_an_option_wins(
    finished_search: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TUNE_MENTORMIX_STORAGE", str(finished_search.path.parent))
    assert run(["status", "done"]) == DONE
    assert run(["status", "done", "--storage", str(tmp_path)]) == WRONG_REQUEST
    capsys.readouterr()


def test_exist_ok_resumes_only_the_same_search(
    finished_search: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "--exist-ok", *storage_of(finished_search)]
    assert run(words) == WRONG_REQUEST
    assert "--exist-ok needs a --name" in capsys.readouterr().err
    assert run([*words, "--name", "done", "--epochs", "9"]) == WRONG_REQUEST
    assert "epochs is 9, but done was started with 4: leave it out" in capsys.readouterr().err
    assert run([*words, "--name", "done", "--trials", "2"]) == WRONG_REQUEST
    assert "num_samples must be at least 5" in capsys.readouterr().err


def test_a_reader_that_leaves_the_pipe_ends_a_command_quietly(finished_search: Experiment) -> None:
    words = shlex.join(
        [sys.executable, "-m", "tune_mentormix", "trials", "done", "--json", *storage_of(finished_search)]
    )
    done = subprocess.run(
        ["bash", "-c", f"{words} | true"], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert "Traceback" not in done.stderr


def test_output_that_cannot_be_written_is_one_line(finished_search: Experiment) -> None:
    words = [sys.executable, "-m", "tune_mentormix", "trials", "done", *storage_of(finished_search)]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=REPOSITORY)
    assert done.returncode == FAILED
    assert done.stderr == "error: cannot write: No space left on device; free space, or send the output elsewhere\n"


def test_trials_are_sorted_limited_and_written_as_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = simulate_search(tmp_path, "birds", 6, epochs=4).trials.values()
    words = ["trials", "birds", "--storage", str(tmp_path)]
    assert run([*words, "--csv", "--sort", "val_accuracy", "--limit", "3"]) == DONE
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["val_accuracy"]) for row in rows] == sorted(t.val_accuracy or 0.0 for t in trials)[:-4:-1]
    assert {"trial", "state", "mixup_alpha", "second_reweight", "note"} <= rows[0].keys()
    assert run([*words, "--json", "--sort", "val_accuracy", "--limit", "1"]) == DONE
    assert [str(trial["trial"]) for trial in json.loads(capsys.readouterr().out)] == [rows[0]["trial"]]
    assert run([*words, "--sort", "val_acuracy"]) == WRONG_REQUEST
    assert "unknown column 'val_acuracy'; did you mean 'val_accuracy'?" in capsys.readouterr().err


def test_the_schema_fits_what_a_search_writes_and_refuses_a_typo(
    finished_search: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["schema"]) == DONE
    validator = jsonschema.Draft202012Validator(json.loads(capsys.readouterr().out))
    text = (finished_search.path / "search.yaml").read_text()
    written = yaml.safe_load(text)
    validator.validate(written)
    validator.validate({"dataset": "folder", "time_budget": "30m", "batch_size": 64, "trial": {"mentor": "focal"}})
    for wrong in ({"epoch": 3}, {"sampler": "tpee"}, {"trial": {"mentr": "focal"}}, {"time_budget": "soon"}):
        assert not validator.is_valid(wrong)
    [relative] = re.findall(r"^# yaml-language-server: \$schema=(\S+)$", text, re.MULTILINE)
    assert json.loads((finished_search.path / relative).read_text()) == validator.schema
    assert all(
        part.get("description") for name, part in validator.schema["properties"].items() if name in written["trial"]
    )


@pytest.mark.parametrize(
    ("command", "shown"), [("spaces", "published"), ("datasets", "cifar100"), ("networks", "resnet50")]
)
def test_what_can_be_set_is_listed(command: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command]) == DONE
    assert shown in capsys.readouterr().out


def test_watching_a_search_that_has_ended_shows_it_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate_search(tmp_path, "birds", 3, epochs=4)
    assert run(["status", "birds", "--watch", "--storage", str(tmp_path)]) == DONE
    assert "birds: finished" in capsys.readouterr().out


def test_after_a_kill_nothing_is_said_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "birds" / "journal.jsonl"
    simulate_search(tmp_path, "birds", 6, epochs=4)
    lines = journal.read_text().splitlines(keepends=True)
    killed = next(n for n, line in enumerate(lines) if '"finished"' in line)
    journal.write_text("".join(lines[:killed]))
    where = ["birds", "--storage", str(tmp_path)]
    assert run(["status", *where]) == DONE
    assert run(["trials", *where]) == DONE
    assert run(["trials", *where, "--json"]) == DONE
    shown = capsys.readouterr().out
    assert "birds: interrupted, 6 pending of 6" in shown
    assert "running" not in shown
    assert run(["status", *where, "--json"]) == DONE
    status = json.loads(capsys.readouterr().out)
    assert (status["trials"]["pending"], status["trials"]["running"]) == (6, 0)
    with Lease(tmp_path / "birds").acquire():
        assert run(["status", *where]) == DONE
    assert "birds: running, 4 pending, 2 running of 6" in capsys.readouterr().out


def test_what_failed_is_listed_as_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate_search(tmp_path, "some", 6, epochs=4, failures=SimulatedFailures({1: "out of memory"}))
    simulate_search(tmp_path, "all", 3, epochs=4, failures=SimulatedFailures(dict.fromkeys(range(3), "loss is nan")))
    assert run(["list", "--storage", str(tmp_path)]) == DONE
    rows = {row.split()[0]: row for row in capsys.readouterr().out.splitlines()}
    assert re.search(r"finished +6/6, 1 failed", rows["some"])
    assert re.search(r"failed +3/3, 3 failed", rows["all"])
    assert run(["status", "all", "--storage", str(tmp_path)]) == DONE
    assert "all: failed, 3 failed of 3" in capsys.readouterr().out


@pytest.mark.parametrize("trials", [0, 1, 6])
def test_every_command_that_the_end_of_a_search_advises_works(
    tmp_path: Path, trials: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    simulate_search(tmp_path / "a storage", "birds", 6, epochs=4)
    journal = tmp_path / "a storage" / "birds" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    ends = [1, *(n + 1 for n, line in enumerate(lines) if '"finished"' in line or '"stopped"' in line)]
    ended = json.dumps({"time": 1_760_009_000.0, "event": "run_ended", "run": 1, "reason": "time_budget"})
    journal.write_text("".join(lines[: ends[trials]]) + ended + "\n")
    print_end(read_experiment(tmp_path / "a storage", "birds"))
    advised = re.findall(
        r"^  (\w+) +\S+ ((?:resume|status|confirm|export) .*)$", capsys.readouterr().out, re.MULTILINE
    )
    assert {purpose for purpose, _ in advised} >= {"extend" if trials == 6 else "resume", "status"}
    assert ("export" in dict(advised)) is (trials > 0)
    for _, words in advised:
        if words.startswith(("status", "export")):  # the others train
            assert run(shlex.split(words)) == DONE, capsys.readouterr().err


def test_searches_are_listed_with_the_newest_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, started in (("a", "2026-01-01T10:00:00+00:00"), ("b", "2026-03-01T10:00:00+00:00"), ("c", "")):
        simulate_search(tmp_path, name, 3, epochs=4, owner="ann")
        path = tmp_path / name / "search.yaml"
        record = yaml.safe_load(path.read_text())
        record["provenance"]["started"] = started
        path.write_text(yaml.safe_dump(record))
    assert run(["list", "--storage", str(tmp_path)]) == DONE
    lines = capsys.readouterr().out.splitlines()[1:]
    expected = [["b", "ann", "2026-03-01"], ["a", "ann", "2026-01-01"], ["c", "ann", "–"]]
    assert [line.split()[:3] for line in lines] == expected


def test_delete_removes_an_experiment_only_when_that_is_confirmed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = simulate_search(tmp_path, "birds", 3, epochs=4).path
    assert run(["delete", "birds", "--storage", str(tmp_path)]) == DONE
    assert path.exists()
    assert "use --yes" in capsys.readouterr().err
    assert run(["delete", "birds", "--yes", "--storage", str(tmp_path)]) == DONE
    assert not path.exists()
    assert run(["delete", "birds", "--yes", "--storage", str(tmp_path)]) == WRONG_REQUEST


@pytest.mark.slow
def test_a_dry_run_estimates_the_cost_and_creates_nothing(
    ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "--dry-run", "--name", "birds", "--storage", str(tmp_path / "s"), "--set", "max_images=300"]
    assert run([*words, "--epochs", "10", "--trials", "8"]) == DONE
    shown = capsys.readouterr().out
    assert "150 training and 150 validation images of 8×8×1, 10 classes" in shown
    assert "small_cnn, 131,178 parameters" in shown
    assert re.search(r"about \d+ with early stopping, at most 80 \(8 trials of 10\)", shown)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("search --num-samples 5 --address a:1", "search --trials 5 --ray-address a:1"),
        ("jobs --address=http://a:1", "jobs --dashboard=http://a:1"),
        ("resume b --num-samples=7", "resume b --trials=7"),
        ("search --set noise_map={a:b}", "search --set noise_map={a:b}"),
    ],
)
def test_old_spellings_still_work(old: str, new: str) -> None:
    assert with_new_spellings(old.split()) == new.split()


def test_the_epochs_expected_follow_from_the_rungs() -> None:
    settings = read_settings(None, {"num_samples": 8, "epochs": 10, "grace_period": 2, "max_images": 300})
    found = DryRun(check_request(settings), parameters=1, epoch_seconds=2.0, concurrent=2)
    assert found.request.early_stopping().rungs == [2, 4, 8]
    assert found.expected_epochs == round(2 * 10 + 6 * (2 + 2 / 2 + 4 / 4 + 2 / 8))
    assert (found.max_epochs, found.seconds(80)) == (80, 80.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--write", "new.csv"], "--write needs --worst N or --above SCORE"),
        (["--worst", "5"], "add --write FILE"),
        (["--write", "new.npy", "--worst", "5"], "must end in .csv, got new.npy (--write)"),
        (["--write", "there.csv", "--worst", "5"], "there.csv exists already"),
        (["--out", "."], "it is a folder (--out)"),
        (["--out", "a.csv", "--write", "./a.csv", "--worst", "5"], "must be different files"),
        (["--pred-probs", "p.npy"], "--pred-probs needs --out"),
        ([], "there is no experiment 'birds'"),
    ],
)
def test_a_request_for_labels_that_cannot_be_met_is_refused_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.csv").touch()

    assert run(["labels", "birds", *options]) == WRONG_REQUEST

    error = capsys.readouterr().err
    assert message in error.replace("\n", " ")
    assert error.startswith("error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there.csv"]
