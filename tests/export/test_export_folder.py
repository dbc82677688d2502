"""An exported folder stands on its own: complete, labelled, without a pickle, and sure of its own files."""

import importlib.util
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.support.searches import folder_of
from tune_mentormix.errors import RequestError
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.export.evaluate import evaluate_export
from tune_mentormix.export.manifest import PROVENANCE_FILE, RECORDED_FILES
from tune_mentormix.export.model_card import reference_flags
from tune_mentormix.export.read import read_folder
from tune_mentormix.export.write import export_best
from tune_mentormix.results.evaluation_log import EVALUATION_LOG, OLD_EXPORT_LOG
from tune_mentormix.storage.journal import JOURNAL_FILE
from tune_mentormix.storage.yaml_files import read_yaml

WITHOUT_ONNX = {"best_config.yaml", "model.safetensors", "reference_flags.txt", "model_card.md", "reproduce.sh"}


@pytest.fixture(scope="module")
def folder(finished_search: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export that tests only read."""
    return export_best(finished_search, tmp_path_factory.mktemp("export") / "best").folder


@pytest.fixture
def interrupted_search(finished_search: Experiment, tmp_path: Path) -> Experiment:
    """The finished search as it would be, had its driver died when trial 0 had its checkpoint of epoch 3."""
    path = tmp_path / "cut"
    shutil.copytree(folder_of(finished_search), path)
    lines = (path / JOURNAL_FILE).read_text().splitlines(keepends=True)
    events = [json.loads(line) for line in lines]
    last = next(
        n for n, e in enumerate(events) if (e["event"], e.get("trial"), e.get("epoch")) == ("checkpoint", 0, 3)
    )
    (path / JOURNAL_FILE).write_text("".join(lines[: last + 1]))
    return read_experiment(tmp_path, "cut")


def test_the_folder_holds_what_it_promises_and_lists_every_file(folder: Path) -> None:
    provenance = json.loads((folder / PROVENANCE_FILE).read_text())
    assert {path.name for path in folder.iterdir()} == WITHOUT_ONNX | {PROVENANCE_FILE}
    assert set(provenance["files"]) == WITHOUT_ONNX


def test_the_weights_name_their_classes_and_their_network(folder: Path) -> None:
    with safe_open(folder / "model.safetensors", framework="np") as file:
        text = json.loads(file.metadata()["tune_mentormix"])
    assert text["class_names"] == [str(digit) for digit in range(10)]
    assert text["network"] == "small_cnn"


def test_every_metric_has_its_split_its_labels_and_its_epoch(folder: Path, finished_search: Experiment) -> None:
    metrics = json.loads((folder / PROVENANCE_FILE).read_text())["metrics"]
    best = finished_search.best()
    assert best is not None
    assert {(m["split"], m["labels"]) for m in metrics} == {
        ("validation", "noisy"),
        ("train", "noisy"),
        ("train", "clean"),
    }
    own = {m["metric"]: m["value"] for m in metrics if "control" not in m}
    assert own["val_accuracy"] == best.val_accuracy
    assert {m["control"] for m in metrics if "control" in m} == {"published", "plain"}


def test_provenance_holds_the_data_and_the_cost_of_the_search(folder: Path, finished_search: Experiment) -> None:
    provenance = json.loads((folder / PROVENANCE_FILE).read_text())
    seconds = sum(r["epoch_seconds"] or 0.0 for t in finished_search.trials.values() for r in t.reports.values())
    assert provenance["compute"]["search"]["cpu_hours"] == pytest.approx(seconds / 3600, abs=1e-6)
    assert provenance["compute"]["search"]["gpu_hours"] == 0
    assert 0 < provenance["compute"]["trial"]["cpu_hours"] < provenance["compute"]["search"]["cpu_hours"]
    dataset = finished_search.provenance.dataset
    assert provenance["dataset"]["fingerprint"] == dataset.fingerprint
    assert provenance["dataset"]["noise"] == 0.4
    assert set(provenance["seeds"]) == {"trial", "search", "data"}
    assert provenance["search"]["num_samples"] == finished_search.num_samples


def test_the_card_gives_each_accuracy_its_split_and_labels_and_admits_what_was_not_done(folder: Path) -> None:
    card = (folder / "model_card.md").read_text()
    assert "accuracy, validation split, noisy labels" in card
    assert "no accuracy on a test set" in card
    assert "plain training" in card
    assert "Unfinished" not in card


def test_the_reference_flags_are_those_of_its_script_and_name_what_is_missing(folder: Path) -> None:
    config = read_yaml(folder / "best_config.yaml").values["config"]
    lines = (folder / "reference_flags.txt").read_text().splitlines()
    assert f"--mixup_alpha={config['mixup_alpha']}" in lines
    assert f"--loss_p_percentile={config['loss_p_percentile']}" in lines
    assert ("--second_reweight" in lines) == config["second_reweight"]
    assert "# The reference has network resnet32_wide, here small_cnn." in lines
    assert all(line.startswith(("# ", "--")) for line in lines)


def test_a_burn_in_between_two_percents_is_exported_as_the_percent_it_acts_as(finished_search: Experiment) -> None:
    trial = finished_search.trials[0]
    flags = reference_flags(finished_search, replace(trial, config=trial.config | {"burn_in": 10.29}))
    assert "--burn_in_epoch=11\n" in flags
    assert "# The reference takes whole percents of burn-in: 11, as which 10.29 acts here.\n" in flags


def test_the_script_is_one_a_shell_understands(folder: Path) -> None:
    subprocess.run(["sh", "-n", folder / "reproduce.sh"], check=True)
    assert (folder / "reproduce.sh").stat().st_mode & 0o111


def test_an_unfinished_search_is_exported_with_the_weights_it_has_and_labelled_so(
    interrupted_search: Experiment, tmp_path: Path
) -> None:
    exported = export_best(interrupted_search, tmp_path / "best")
    assert exported.model is not None
    assert exported.model.epoch == 3
    assert exported.model.val_accuracy == interrupted_search.trials[0].reports[3]["val_accuracy"]
    assert "Unfinished: this trial had run 3 of 4 epochs" in (tmp_path / "best" / "model_card.md").read_text()
    assert read_yaml(tmp_path / "best" / "best_config.yaml").values["search_state"] == "interrupted"
    assert read_folder(tmp_path / "best").model == exported.model


def test_without_a_whole_checkpoint_all_but_the_weights_is_exported_and_the_card_tells_so(
    interrupted_search: Experiment, tmp_path: Path
) -> None:
    shutil.rmtree(folder_of(interrupted_search) / "runs")
    exported = export_best(interrupted_search, tmp_path / "best")
    assert exported.model is None
    names = {path.name for path in (tmp_path / "best").iterdir()}
    assert names == (WITHOUT_ONNX | {PROVENANCE_FILE}) - {"model.safetensors"}
    assert "**No weights**: trial 0 has no whole checkpoint." in (tmp_path / "best" / "model_card.md").read_text()
    with pytest.raises(RequestError, match="holds no weights: trial 0 has no whole checkpoint"):
        read_folder(tmp_path / "best")
    with pytest.raises(RequestError, match="there is no ONNX file without weights"):
        export_best(interrupted_search, tmp_path / "other", onnx=True)


def test_an_earlier_export_is_replaced_and_its_logs_of_test_evaluations_kept(
    finished_search: Experiment, interrupted_search: Experiment, tmp_path: Path
) -> None:
    out = export_best(finished_search, tmp_path / "best").folder
    for log in (EVALUATION_LOG, OLD_EXPORT_LOG):
        (out / log).write_text(log)
    shutil.rmtree(folder_of(interrupted_search) / "runs")
    export_best(interrupted_search, out)
    assert not (out / "model.safetensors").exists()
    assert [(out / log).read_text() for log in (EVALUATION_LOG, OLD_EXPORT_LOG)] == [EVALUATION_LOG, OLD_EXPORT_LOG]


def test_a_folder_that_holds_other_things_is_left_as_it_was(finished_search: Experiment, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(RequestError, match=r"holds thesis\.tex, which is no part of an export; choose another --out"):
        export_best(finished_search, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_where_the_folder_should_be_is_a_wrong_request(finished_search: Experiment, tmp_path: Path) -> None:
    (tmp_path / "best").write_text("a file")
    with pytest.raises(RequestError, match=r"cannot write to .*best: .* \(--out\)"):
        export_best(finished_search, tmp_path / "best")


def test_an_onnx_file_is_exported_and_listed_where_its_packages_are_there(
    finished_search: Experiment, tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    exported = export_best(finished_search, tmp_path / "best", onnx=True)
    assert exported.onnx_difference is not None
    assert "model.onnx" in json.loads((tmp_path / "best" / PROVENANCE_FILE).read_text())["files"]


@pytest.mark.skipif(importlib.util.find_spec("onnx") is not None, reason="the packages are there")
def test_without_its_packages_an_onnx_file_is_refused_with_what_to_install(
    finished_search: Experiment, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match=r"make install EXTRAS=onnx, or .* \(--onnx\)"):
        export_best(finished_search, tmp_path / "best", onnx=True)
    assert not (tmp_path / "best").exists()


def test_a_copy_elsewhere_is_as_good(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "moved")
    assert read_folder(tmp_path / "moved").config == read_folder(folder).config


@pytest.mark.parametrize("name", ["best_config.yaml", "model.safetensors"])
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("missing", "cannot read .*: No such file"),
        ("truncated", "bytes, not the .* that were exported"),
        ("one bit", "was changed since it was exported"),
    ],
)
def test_damaged_files_are_named(folder: Path, tmp_path: Path, name: str, damage: str, complaint: str) -> None:
    shutil.copytree(folder, tmp_path / "best")
    path = tmp_path / "best" / name
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[:-1])
    if damage == "one bit":
        path.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    with pytest.raises(RequestError, match=f"{name}.*{complaint}|{complaint}") as error:
        read_folder(tmp_path / "best")
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "is missing: .* is no export, or its export was interrupted"),
        ("", "is damaged: it is not JSON"),
        ("[" * 100_000, "is damaged: it is not JSON"),
        ("[]", "names no format"),
        ('{"format": 2}', "has format 2, this version reads up to 1: upgrade"),
        ('{"format": 1}', "is no export's provenance: files"),
        ('{"format": 1, "files": {}, "model": {"epoch": 1, "val_accuracy": 1}}', "does not list best_config.yaml"),
    ],
)
def test_a_provenance_that_is_none_is_refused(
    folder: Path, tmp_path: Path, content: str | None, complaint: str
) -> None:
    shutil.copytree(folder, tmp_path / "best")
    (tmp_path / "best" / PROVENANCE_FILE).unlink()
    if content is not None:
        (tmp_path / "best" / PROVENANCE_FILE).write_text(content)
    with pytest.raises(RequestError, match=complaint):
        read_folder(tmp_path / "best")


def test_nothing_exported_is_a_pickle(folder: Path) -> None:
    assert not [path for path in folder.iterdir() if path.read_bytes()[:2] in (b"\x80\x02", b"\x80\x04", b"PK")]
    assert set(RECORDED_FILES) >= WITHOUT_ONNX


def test_the_weights_of_the_best_epoch_score_what_that_epoch_did(finished_search: Experiment, tmp_path: Path) -> None:
    best = finished_search.best()
    assert best is not None
    assert best.best_epoch is not None
    folder = export_best(finished_search, tmp_path / "peak", which="best").folder
    evaluation = evaluate_export(read_folder(folder), "validation")
    assert evaluation.measurement.accuracy == best.curve[best.best_epoch] == evaluation.recorded_accuracy
    assert f"after epoch {best.best_epoch}, the one with the highest" in (folder / "model_card.md").read_text()
