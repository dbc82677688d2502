import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

from tests.support.searches import folder_of
from tests.support.simulated_search import NO_FAILURES, SimulatedFailures, simulate_search
from tune_mentormix.cli.app import run
from tune_mentormix.errors import DONE, WRONG_REQUEST
from tune_mentormix.experiment.experiment import Experiment, read_experiment
from tune_mentormix.report.page import Report, build_report, write_report
from tune_mentormix.results.summary import find, lead_by_luck

REPOSITORY = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script> & $x^2$ \"quoted\" 'too'"


class Page(HTMLParser):
    """The tags of a page, what it would load, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.headings: dict[str, list[str]] = {"h1": [], "h2": []}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
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
    return build_report(searched)


@pytest.fixture(scope="module")
def page(searched: Experiment) -> Page:
    return Page(write_report(searched, folder_of(searched) / "report.html").read_text(encoding="utf-8"))


def words(page: Page) -> str:
    return re.sub(r"\s+", " ", page.text)


def test_the_answer_comes_first_with_split_labels_and_controls(searched: Experiment, page: Page) -> None:
    best = searched.best()
    assert best is not None
    answer, *sections = page.headings["h1"] + page.headings["h2"]
    assert answer == find(searched).headline
    assert sections == [
        "Learning curves",
        "The best so far",
        "Who was stopped, and what that saved",
        "Which hyperparameters matter",
        "All finished configurations",
        "Accuracy over each hyperparameter",
        "What the mentor selected",
        "Label noise",
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
    assert HOSTILE in words(page)


def test_every_picture_has_words_for_those_who_do_not_see_it(searched: Experiment) -> None:
    html = (folder_of(searched) / "report.html").read_text(encoding="utf-8")
    pictures = re.findall(r'<div class="picture[^"]*"([^>]*)>', html)
    assert len(pictures) >= 10
    assert all(re.search(r'role="img" aria-label="[^"]{20,}"', attributes) for attributes in pictures)
    assert not re.search(r"#00000[1-6]", html), "a stand-in colour was left"


def test_no_picture_has_a_colour_that_does_not_follow_the_page(searched: Experiment) -> None:
    html = (searched.path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(stroke|fill): ?#", html)


def test_rungs_add_up_and_epochs_saved_are_those_of_stopped_trials(searched: Experiment, built: Report) -> None:
    survival = built.survival
    stopped = [trial for rung in survival.rungs for trial in rung.stopped]
    assert len(stopped) == searched.counts()["stopped_early"]
    assert survival.rungs[0].came == sum(trial.control is None for trial in searched.trials.values())
    assert survival.epochs_saved == sum(20 - searched.trials[number].epoch for number in stopped)
    assert survival.epochs_in_full == 48 * 20


def test_importance_has_an_interval_and_counts_only_trials_of_mentormix(built: Report) -> None:
    first_rung, last_epoch = built.importances
    assert first_rung.trials == 46  # of 48, plain mixup and plain training are another method
    assert last_epoch.trials < first_rung.trials
    assert sum(one.share for one in first_rung.hyperparameters) == pytest.approx(1)
    assert all(0 <= one.low <= one.high <= 1 for one in first_rung.hyperparameters)


def test_cost_is_epoch_time_times_resources(tmp_path: Path) -> None:
    experiment = simulate_search(tmp_path, "gpu", 3, epochs=5, cpus_per_trial=2, gpus_per_trial=0.5)
    cost = build_report(experiment).cost
    assert cost.training_seconds == pytest.approx(15 * 4.0)
    assert (cost.cpu_hours, cost.gpu_hours) == pytest.approx((120 / 3600, 30 / 3600))


def test_too_few_trials_are_said_to_be_too_few(tmp_path: Path) -> None:
    experiment = simulate_search(tmp_path, "few", 6, epochs=6)
    assert "Too few trials ended to say" in words(Page(write_report(experiment, tmp_path / "a.html").read_text()))


@pytest.mark.parametrize(
    ("num_samples", "failures", "headline"),
    [
        (1, NO_FAILURES, "The published setting is the best of this search"),
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
    finding = find(experiment)
    assert finding.headline.startswith("A small lead")
    assert "may be a gain or a tie" in finding.explanation


def test_one_image_is_no_gain_even_for_a_perfect_accuracy(searched: Experiment) -> None:
    experiment = read_experiment(searched.path.parent, "birds")
    images = experiment.provenance.dataset.validation_images
    by_luck = lead_by_luck(experiment, 1.0, 1 - 1 / images)
    assert by_luck is not None
    assert by_luck > 1 / images


def test_the_command_writes_where_it_is_told_and_not_over_a_folder(
    searched: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = ["--storage", str(searched.path.parent)]
    out = tmp_path / "new" / "r.html"
    assert run(["report", "birds", "--out", str(out), *storage]) == DONE
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert run(["report", "birds", "--out", str(tmp_path), *storage]) == WRONG_REQUEST
    assert "it is a folder (--out)" in capsys.readouterr().err


def test_report_and_compare_import_neither_torch_nor_ray_nor_scikit_learn(
    searched: Experiment, tmp_path: Path
) -> None:
    simulate_search(tmp_path, "a", 4, epochs=3)
    simulate_search(tmp_path, "b", 2, epochs=3)
    commands = [["report", "a", "--storage", str(tmp_path)], ["compare", "a", "b", "--storage", str(tmp_path)]]
    code = f"import sys\nfrom tune_mentormix.cli.app import run\nassert not any(map(run, {commands!r}))\n"
    code += "assert not {'torch', 'ray', 'sklearn'} & set(sys.modules)\n"
    code += "import sklearn"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)


def test_the_share_of_wrong_labels_is_estimated_from_above_where_nobody_knows_it(
    searched: Experiment, built: Report, page: Page
) -> None:
    best = searched.best()
    assert best is not None
    assert best.val_accuracy is not None
    assert built.estimated_noise == pytest.approx(1 - best.val_accuracy)
    assert f"at most about {100 * (1 - best.val_accuracy):.1f} %" in words(page)


def test_pyplot_is_left_as_it_was(searched: Experiment) -> None:
    plt.switch_backend("svg")
    mine = plt.figure()
    settings_before = dict(plt.rcParams)
    build_report(searched)
    assert plt.get_fignums() == [mine.number]
    assert dict(plt.rcParams) == settings_before
    plt.close(mine)
