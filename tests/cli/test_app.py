import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_group

from tune_mentormix.cli.app import app, run
from tune_mentormix.errors import DONE, FAILED, WRONG_REQUEST
from tune_mentormix.experiment.experiment import Experiment, read_experiment

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
    assert set(status["best"]) == {"trial_id", "val_accuracy", "epoch", "config"}
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
def test_every_accuracy_printed_says_its_labels(
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
        (["search", "--num-samples", "many"], "'--num-samples'"),
        (["search", "--num-samples", "0"], "num_samples must be a whole number of at least 1, got 0 (--num-samples)"),
        (["search", "--dataset", "digit"], "unknown dataset 'digit'; did you mean 'digits'?"),
        (["search", "--name", "../../x"], "name: must be up to 64 letters"),
        (["search", "--space", "defalt"], "did you mean 'default'?"),
        (["search", "--config", "nowhere.yaml"], "cannot read nowhere.yaml: No such file"),
        (["resume", "nobody"], "there is no experiment 'nobody'"),
        (["confirm", "nobody"], "there is no experiment 'nobody'"),
        (["status", "nobody"], "there is no experiment 'nobody'"),
        (["status", ".."], "name must be up to 64 letters"),
        (["export", "nobody", "--out", "best"], "there is no experiment 'nobody'"),
        (["train", "nowhere.yaml"], "cannot read nowhere.yaml"),
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


def test_a_failed_trial_is_told_and_only_when_all_fail_the_search_ends_with_1(
    ray_session: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "space.yaml").write_text("learning_rate: {choices: [1e30]}\n")
    (tmp_path / "search.yaml").write_text(f"max_images: 300\nspace: {tmp_path}/space.yaml\n")
    options = ["--epochs", "2", "--num-samples", "4", "--name", "bad", "--storage", str(tmp_path / "s")]
    config = ["--config", str(tmp_path / "search.yaml")]
    assert run(["search", *config, *options]) == DONE
    assert re.search(r"trial 3 failed: \w+_loss is nan in epoch", capsys.readouterr().out)
    failed = read_experiment(tmp_path / "s", "bad").trials[3]
    assert (failed.state, failed.attempt) == ("failed", 1), "what fails by its own fault is not tried again"
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
        ["jobs", "--address", "http://127.0.0.1:9"],
        ["--help"],
    ],
)
def test_reading_commands_import_neither_torch_nor_ray(finished_search: Experiment, command: list[str]) -> None:
    storage = [] if command == ["--help"] else storage_of(finished_search)
    code = f"import sys\nfrom tune_mentormix.cli.app import run\ncode = run({[*command, *storage]!r})\n"
    code += "assert code == 0\nassert not {'torch', 'ray', 'optuna'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("command", sorted(get_group(app).commands))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == DONE
    assert "Usage" in capsys.readouterr().out
