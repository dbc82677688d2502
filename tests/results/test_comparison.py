import json
from pathlib import Path

import pytest

from tests.support.simulated_search import SimulatedFailures, simulate_search
from tune_mentormix.cli.app import run
from tune_mentormix.errors import DONE, WRONG_REQUEST
from tune_mentormix.results.comparison import compare
from tune_mentormix.storage.yaml_files import read_yaml, write_yaml


def test_settings_that_differ_are_named_and_those_alike_are_not(tmp_path: Path) -> None:
    one = simulate_search(tmp_path, "one", 4, epochs=6)
    two = simulate_search(tmp_path, "two", 5, epochs=6, seed=3, trial={"batch_size": 64})
    differing = compare([one, two]).differing
    assert differing == {"num_samples": [4, 5], "seed": [0, 3], "trial.batch_size": [None, 64]}


def test_the_same_data_and_labels_are_comparable(tmp_path: Path) -> None:
    comparison = compare([simulate_search(tmp_path, name, 4, epochs=6) for name in ("one", "two")])
    assert (comparison.obstacles, comparison.reservations, comparison.differing) == ([], [], {})


def test_other_data_are_not_comparable(tmp_path: Path) -> None:
    one = simulate_search(tmp_path, "one", 3, epochs=6)
    two = simulate_search(tmp_path, "two", 3, epochs=6)
    two.provenance.dataset.fingerprint = "0" * 64
    assert "fingerprints differ" in compare([one, two]).obstacles[0]


def test_noisy_and_clean_validation_labels_are_not_comparable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    simulate_search(tmp_path, "one", 3, epochs=6)
    simulate_search(tmp_path, "two", 3, epochs=6, validation_labels="clean")
    assert run(["compare", "one", "two", "--storage", str(tmp_path)]) == DONE
    printed = capsys.readouterr().out
    assert (
        "NOT COMPARABLE: accuracies are on different kinds of validation labels (one: noisy, two: clean)" in printed
    )


def test_what_to_mind_is_said(tmp_path: Path) -> None:
    one = simulate_search(tmp_path, "one", 3, epochs=6)
    two = simulate_search(tmp_path, "two", 3, epochs=8, failures=SimulatedFailures({}, unfinished=(2,)))
    reservations = compare([one, two]).reservations
    assert reservations == ["trials train for different numbers of epochs (6, 8)", "not finished yet: two"]


def test_json_is_one_document_with_split_labels_and_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate_search(tmp_path, "one", 4, epochs=6)
    simulate_search(tmp_path, "two", 5, epochs=6)
    assert run(["compare", "one", "two", "--json", "--storage", str(tmp_path)]) == DONE
    document = json.loads(capsys.readouterr().out)
    assert document["comparable"] is True
    assert document["differing"] == {"num_samples": {"one": 4, "two": 5}}
    first = document["searches"][0]
    assert (first["name"], first["split"], first["labels"]) == ("one", "validation", "noisy")
    assert first["cpu_hours"] == pytest.approx(4 * 6 * 4.0 / 3600)


def test_a_page_shows_the_comparison_with_learning_curves(tmp_path: Path) -> None:
    for name in ("one", "two"):
        simulate_search(tmp_path, name, 4, epochs=6)
    settings = read_yaml(tmp_path / "two" / "search.yaml").values
    write_yaml(tmp_path / "two" / "search.yaml", settings | {"data_dir": "<script>alert(1)</script>"})
    out = tmp_path / "compare.html"
    assert run(["compare", "one", "two", "--out", str(out), "--storage", str(tmp_path)]) == DONE
    html = out.read_text(encoding="utf-8")
    assert "&lt;script&gt;" in html
    assert "<script" not in html
    assert '<img src="data:image/svg+xml' in html


@pytest.mark.parametrize("names", [["one"], ["one", "one"]])
def test_one_search_alone_is_not_compared(names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", *names]) == WRONG_REQUEST
    assert "two or more different names" in capsys.readouterr().err


def test_the_lead_of_one_search_over_another_is_paired_image_by_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (
        simulate_search(tmp_path, name, 6, epochs=6, seed=seed, with_answers=True)
        for seed, name in enumerate(("one", "two"))
    )
    (lead,) = compare([one, two]).leads()
    bests = {experiment.name: experiment.ranked_trials()[0].val_accuracy or 0.0 for experiment in (one, two)}
    assert lead.lead == bests[lead.search] - bests[lead.other] >= 0
    assert lead.images == 10_000
    unpaired = 1.645 * (2 * 0.25 / 10_000) ** 0.5
    assert lead.bound is not None
    assert 0 < lead.bound < unpaired
    assert run(["compare", "one", "two", "--storage", str(tmp_path)]) == DONE
    assert str(lead) in capsys.readouterr().out


def test_a_third_search_that_has_no_result_yet_has_no_lead(tmp_path: Path) -> None:
    searches = [simulate_search(tmp_path, name, 3, epochs=6, with_answers=True) for name in ("one", "two")]
    waiting = SimulatedFailures({}, unfinished=(0, 1, 2))
    searches.append(simulate_search(tmp_path, "three", 3, epochs=6, failures=waiting))
    (lead,) = compare(searches).leads()
    assert (lead.lead, {lead.search, lead.other}) == (0.0, {"one", "two"})
    assert str(lead) == "The best of one and the best of two are equally accurate."
    assert "it may be a tie" in str(lead.model_copy(update={"lead": 1e-4}))


def test_where_the_answers_were_not_kept_the_lead_has_no_bound(tmp_path: Path) -> None:
    searches = [simulate_search(tmp_path, name, 6, epochs=6, seed=n) for n, name in enumerate(("one", "two"))]
    (lead,) = compare(searches).leads()
    assert (lead.bound, lead.images) == (None, None)
    assert "were not kept" in str(lead)
    searches[0].provenance.dataset.fingerprint = "0" * 64
    assert compare(searches).leads() == []
