from pathlib import Path
from typing import Any

from tune_mentormix.config.controls import published_setting
from tune_mentormix.config.settings import SearchSettings
from tune_mentormix.experiment.events import Proposed, Report, parse_event
from tune_mentormix.experiment.experiment import Experiment
from tune_mentormix.results.candidates import choose_candidates, confirmation_seeds

CONTROLS: dict[str, dict[str, Any]] = {"published": {"alpha": 8}, "mixup": {"alpha": 7}, "plain": {"alpha": 0}}


def search_with(*results: tuple[float, str, str | None], config: dict[str, Any] | None = None) -> Experiment:
    """A search whose trials ended so: last accuracy, event that ended them, control."""
    experiment = Experiment(Path("nowhere"), SearchSettings())
    for number, (accuracy, end, control) in enumerate(results):
        settings = config or {"alpha": number + 1}
        experiment.apply(Proposed(trial=number, config=settings, control=control))
        experiment.apply(Report(trial=number, epoch=1, val_accuracy=accuracy))
        experiment.apply(parse_event({"event": end, "trial": number}))
    return experiment


def test_the_best_that_ran_to_the_end_are_chosen_with_their_ranks() -> None:
    search = search_with(
        (0.5, "finished", None), (0.9, "stopped", None), (0.7, "finished", None), (0.6, "finished", None)
    )
    chosen = choose_candidates(search, {}, top_k=2)
    assert [(c.name, c.search_rank, c.search_accuracy) for c in chosen] == [("trial 2", 1, 0.7), ("trial 3", 2, 0.6)]


def test_baselines_are_controls_and_ranked_like_all_others() -> None:
    search = search_with((0.9, "finished", "plain"), (0.8, "finished", "mixup"), (0.5, "finished", None))
    chosen = choose_candidates(search, CONTROLS, top_k=5)
    assert [(c.name, c.trial, c.search_rank) for c in chosen] == [
        ("published", None, None),
        ("mixup", 1, 2),
        ("plain", 0, 1),
        ("trial 2", 2, 3),
    ]
    assert chosen[0].config == {"alpha": 8}
    assert [c.uses_mentor for c in chosen] == [True, False, False, True]


def test_the_published_setting_among_the_best_is_one_candidate() -> None:
    search = search_with((0.6, "finished", "published"), (0.7, "finished", None), (0.5, "finished", None))
    chosen = choose_candidates(search, CONTROLS, top_k=2)
    assert [(c.name, c.search_rank) for c in chosen if c.uses_mentor] == [("published", 2), ("trial 1", 1)]


def test_of_two_published_settings_each_tells_for_which_noise_it_is() -> None:
    search = Experiment(Path("nowhere"), SearchSettings())
    for number, noise in enumerate((0.4, 0.6)):
        search.apply(Proposed(trial=number, config=published_setting(noise, 10), control="published"))
        search.apply(Report(trial=number, epoch=1, val_accuracy=0.5))
        search.apply(parse_event({"event": "finished", "trial": number}))
    compared_with, other = choose_candidates(search, {"published": {}}, top_k=2)
    assert (compared_with.title, compared_with.in_a_sentence) == (
        "published setting",
        "the published setting for 60 % noise",
    )
    assert other.title == other.in_a_sentence == "trial 0 (published for 40 % noise)"


def test_a_configuration_proposed_twice_is_one_candidate() -> None:
    search = search_with((0.6, "finished", None), (0.5, "finished", None), config={"alpha": 3})
    assert [c.name for c in choose_candidates(search, {}, top_k=2)] == ["trial 0"]


def test_seeds_are_fresh_and_more_of_them_begin_with_the_same() -> None:
    seeds = confirmation_seeds(search_seed=0, count=8)
    assert len(set(seeds)) == 8
    assert 0 not in seeds
    assert confirmation_seeds(0, 5) == seeds[:5]
    assert not set(confirmation_seeds(1, 8)) & set(seeds)
