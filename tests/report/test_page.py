import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib import pyplot as plt

from tests.support.searches import folder_of
from tests.support.simulated_search import NO_FAILURES, SimulatedFailures, simulate_search
from tune_mentormix.cli.app import run
from tune_mentormix.errors import DONE, WRONG_REQUEST
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.report.page import Report, write_report
from tune_mentormix.results.summary import max_lead_by_chance, summarize

REPOSITORY = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script> & $x^2$ \"quoted\" 'too'"


class Page(HTMLParser):
    """The tags of a page, what it would load, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.alternatives: list[str] = []  # of images
        self.headings: dict[str, list[str]] = {"h1": [], "h2": []}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.alternatives += [value or "" for name, value in attrs if name == "alt"]
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]

    def handle_data(self, data: str) -> None:
        if self.lasttag in self.headings and data.strip():
            self.headings[self.lasttag].append(data)
        self.text += " " + data


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    failures = SimulatedFailures({3: HOSTILE}, restarted=(5,))
    return simulate_search(tmp_path_factory.mktemp("searched"), "birds", 48, epochs=20, failures=failures)


@pytest.fixture(scope="module")
def built(searched: Experiment) -> Report:
    return Report(searched)


@pytest.fixture(scope="module")
def page(searched: Experiment) -> Page:
    return Page(write_report(searched, folder_of(searched) / "report.html").read_text(encoding="utf-8"))


def words(page: Page) -> str:
    return re.sub(r"\s+", " ", page.text)


def drawings(page: Page) -> list[ElementTree.Element]:
    images = [reference for reference in page.loads if reference.startswith("data:image/svg+xml;base64,")]
    return [ElementTree.fromstring(base64.b64decode(image.partition(",")[2])) for image in images]


def test_the_answer_comes_first_with_split_labels_and_controls(searched: Experiment, page: Page) -> None:
    best = searched.best()
    assert best is not None
    answer, *sections = page.headings["h1"] + page.headings["h2"]
    assert answer == summarize(searched).headline
    assert sections == [
        "Learning curves",
        "Optimization history",
        "Trials per rung",
        "Hyperparameter importances",
        "Parallel coordinates",
        "Slices: accuracy over each hyperparameter",
        "What the mentor selected",
        "Label noise",
        "Suspicious labels",
        "Failures and restarts",
        "Cost",
        "Every trial",
        "Settings and provenance",
    ]
    opening = words(page).partition("Learning curves")[0]
    for said in (
        "Accuracy on noisy validation labels",
        f"{best.val_accuracy:.4f}",
        "published setting",
        "plain mixup",
    ):
        assert said in opening


def test_a_report_loads_nothing_and_runs_nothing(searched: Experiment, page: Page) -> None:
    html = (folder_of(searched) / "report.html").read_text(encoding="utf-8")
    assert all(reference.startswith(("#", "data:")) for reference in page.loads)
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert not re.search(r"url\((?!['\"]?#)|@import", html)


def test_what_others_wrote_is_shown_and_not_obeyed(page: Page) -> None:
    assert HOSTILE in words(page)


def test_hostile_class_names_are_shown_in_the_heat_map(tmp_path: Path) -> None:
    experiment = simulate_search(tmp_path, "hostile", 4, epochs=6)
    noise = {"noise_rate": 0.5, "class_names": [HOSTILE, "b"], "transition_matrix": [[0.5, 0.5], [0.5, 0.5]]}
    (folder_of(experiment) / "label_noise.json").write_text(json.dumps(noise))
    page = Page(write_report(experiment, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert HOSTILE in ["".join(element.itertext()) for drawing in drawings(page) for element in drawing.iter()]
    assert not [element for drawing in drawings(page) for element in drawing.iter() if "script" in element.tag]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"transition_matrix": [[0.5], [0.5, 0.5]]}, "a row and a column for each of the 2 classes"),
        ({"transition_matrix": [0.5, 0.5]}, "transition_matrix.0 must"),
        ({"class_names": 2}, "class_names must"),
        ({"noise_rate": 7.5}, "noise_rate must be a number"),
    ],
)
def test_a_damaged_record_of_the_noise_is_left_out_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changed: dict[str, object], reason: str
) -> None:
    experiment = simulate_search(tmp_path, "birds", 4, epochs=6)
    noise = {"noise_rate": 0.5, "class_names": ["a", "b"], "transition_matrix": [[0.5, 0.5], [0.5, 0.5]]}
    (folder_of(experiment) / "label_noise.json").write_text(json.dumps(noise | changed))
    write_report(experiment, tmp_path / "report.html")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "label_noise.json" in warning
    assert reason in warning


def test_every_figure_has_a_text_alternative(page: Page) -> None:
    assert len(page.alternatives) == page.tags.count("img") >= 10
    assert all(len(alternative) >= 20 for alternative in page.alternatives)


def test_figures_load_nothing_and_their_text_is_text(page: Page) -> None:
    references = [
        value
        for drawing in drawings(page)
        for element in drawing.iter()
        for name, value in element.attrib.items()
        if name.endswith(("href", "src"))
    ]
    assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in references)
    assert all(any(element.tag.endswith("}text") for element in drawing.iter()) for drawing in drawings(page))


def test_figures_of_one_search_are_the_same_each_time(searched: Experiment, built: Report) -> None:
    again = Report(searched)
    assert again.learning_curves == built.learning_curves
    assert again.parallel_coordinates == built.parallel_coordinates


def test_rungs_add_up_and_epochs_saved_are_those_of_stopped_trials(searched: Experiment, built: Report) -> None:
    pruning = built.pruning
    stopped = [trial for rung in pruning.rungs for trial in rung.stopped]
    assert len(stopped) == searched.counts()["stopped_early"]
    assert pruning.rungs[0].reached == sum(trial.control is None for trial in searched.trials.values())
    assert pruning.epochs_saved == sum(20 - searched.trials[number].epoch for number in stopped)
    assert pruning.epochs_in_full == 48 * 20


def test_importance_has_an_interval_and_counts_only_trials_of_mentormix(built: Report) -> None:
    first_rung, last_epoch = built.importances
    assert first_rung.trials == 46  # of 48, plain mixup and plain training are another method
    assert last_epoch.trials < first_rung.trials
    assert sum(one.importance for one in first_rung.hyperparameters) == pytest.approx(1)
    assert all(0 <= one.low <= one.high <= 1 for one in first_rung.hyperparameters)


def test_cost_is_epoch_time_times_resources(tmp_path: Path) -> None:
    experiment = simulate_search(tmp_path, "gpu", 3, epochs=5, cpus_per_trial=2, gpus_per_trial=0.5)
    cost = Report(experiment).experiment.usage
    assert cost.training_seconds == pytest.approx(15 * 4.0)
    assert (cost.cpu_hours, cost.gpu_hours) == pytest.approx((120 / 3600, 30 / 3600))


def test_importances_are_not_estimated_from_too_few_trials(tmp_path: Path) -> None:
    experiment = simulate_search(tmp_path, "few", 6, epochs=6)
    assert "Too few trials to estimate importances" in words(
        Page(write_report(experiment, tmp_path / "a.html").read_text())
    )


@pytest.mark.parametrize(
    ("num_samples", "failures", "headline"),
    [
        (1, NO_FAILURES, "The published setting for 40 % noise is the best of this search"),
        (4, SimulatedFailures(dict.fromkeys(range(4), "train_loss is nan in epoch 3")), "Every trial failed"),
        (3, SimulatedFailures({}, unfinished=(0, 1, 2)), "No trial has run to the end yet"),
    ],
)
def test_a_search_of_any_outcome_has_a_report(
    tmp_path: Path, num_samples: int, failures: SimulatedFailures, headline: str
) -> None:
    experiment = simulate_search(tmp_path, "odd", num_samples, epochs=6, failures=failures)
    page = words(Page(write_report(experiment, tmp_path / "report.html").read_text()))
    assert headline in page
    assert ("This search is interrupted" in page) == bool(failures.unfinished)


def test_a_search_that_has_not_begun_has_a_report(tmp_path: Path) -> None:
    (simulate_search(tmp_path, "new", 1, epochs=6).path / "journal.jsonl").unlink()
    page = words(Page(write_report(read_experiment(tmp_path, "new"), tmp_path / "report.html").read_text()))
    assert "No result yet" in page


def test_a_lead_that_luck_can_explain_is_not_called_a_gain(searched: Experiment) -> None:
    experiment = read_experiment(searched.path.parent, "birds")
    experiment.provenance.dataset.validation_images = 50
    finding = summarize(experiment)
    assert finding.headline.startswith("A small lead")
    assert "may be a gain or a tie" in finding.explanation


def test_one_image_is_no_gain_even_for_a_perfect_accuracy(searched: Experiment) -> None:
    experiment = read_experiment(searched.path.parent, "birds")
    images = experiment.provenance.dataset.validation_images
    by_chance = max_lead_by_chance(experiment, 1.0, 1 - 1 / images)
    assert by_chance is not None
    assert by_chance > 1 / images


def test_the_command_writes_where_it_is_told_and_not_over_a_folder(
    searched: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = ["--storage", str(searched.path.parent)]
    out = tmp_path / "new" / "r.html"
    assert run(["report", "birds", "--out", str(out), *storage]) == DONE
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert run(["report", "birds", "--out", str(tmp_path), *storage]) == WRONG_REQUEST
    assert "it is a folder (--out)" in capsys.readouterr().err


def test_report_and_compare_import_neither_torch_nor_ray(tmp_path: Path) -> None:
    simulate_search(tmp_path, "a", 4, epochs=3)
    simulate_search(tmp_path, "b", 2, epochs=3)
    commands = [["report", "a", "--storage", str(tmp_path)], ["compare", "a", "b", "--storage", str(tmp_path)]]
    code = f"import sys\nfrom tune_mentormix.cli.app import run\nassert not any(map(run, {commands!r}))\n"
    code += "assert not {'torch', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)


def test_the_estimated_noise_stands_beside_the_known_one(finished_search: Experiment, tmp_path: Path) -> None:
    text = words(Page(write_report(finished_search, tmp_path / "report.html").read_text(encoding="utf-8")))
    reference = max(
        (trial for trial in finished_search.trials.values() if trial.noise), key=lambda t: t.val_accuracy or 0
    )
    assert reference.noise is not None
    assert f"{100 * reference.noise.rate:.1f} % of the validation labels are wrong" in text
    assert f"from the predictions of trial {reference.number}, the most accurate one" in text
    assert "of the training labels are wrong, as the true ones are known" in text


def test_the_noise_rate_has_an_upper_bound_without_true_labels(
    searched: Experiment, built: Report, page: Page
) -> None:
    best = searched.best()
    assert best is not None
    assert best.val_accuracy is not None
    assert built.noise_rate_bound == pytest.approx(1 - best.val_accuracy)
    assert f"at most about {100 * (1 - best.val_accuracy):.1f} %" in words(page)


def test_pyplot_is_left_as_it_was(searched: Experiment) -> None:
    plt.switch_backend("svg")
    mine = plt.figure()
    settings_before = dict(plt.rcParams)
    Report(searched)
    assert plt.get_fignums() == [mine.number]
    assert dict(plt.rcParams) == settings_before
    plt.close(mine)
