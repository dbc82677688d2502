"""The posterior of a search space recovers a smooth surface, says how sure it is, and draws nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from tune_mentormix.results import posterior as posterior_module
from tune_mentormix.results.posterior import MAX_OBSERVATIONS, Observation, Posterior, UnitCube

SPACE = {
    "mixup_alpha": FloatDistribution(0.5, 32, log=True),
    "loss_p_percentile": FloatDistribution(0.1, 0.9),
    "burn_in": IntDistribution(0, 15),
    "mentor": CategoricalDistribution(["threshold", "focal", "spcl_linear"]),
    "second_reweight": CategoricalDistribution([True]),
}
LUCK = 0.01


def surface(params: dict[str, Any]) -> float:
    bonus = {"threshold": 0.02, "focal": 0.0, "spcl_linear": -0.02}[params["mentor"]]
    alpha, percentile = math.log2(params["mixup_alpha"]), params["loss_p_percentile"]
    return float(0.6 - 0.008 * (alpha - 2) ** 2 - 0.3 * (percentile - 0.6) ** 2 + bonus)


def observed(finished: int, stopped: int = 0) -> list[Observation]:
    """Trials that finished, and others that were stopped after 30 % with what is left of their accuracy there."""
    generator = np.random.default_rng(1)
    found = []
    for number, params in enumerate(UnitCube(SPACE).draw(generator, finished + stopped)):
        luck = LUCK * generator.standard_normal()
        found.append(Observation(number, params, 0.3, 0.2 + 0.5 * surface(params) + luck))
        if number < finished:
            found.append(Observation(number, params, 1.0, surface(params) + luck))
    return found


def correlation(posterior: Posterior) -> float:
    unseen = UnitCube(SPACE).draw(np.random.default_rng(2), 300)
    return float(np.corrcoef(posterior.mean(unseen), [surface(params) for params in unseen])[0, 1])


def test_it_finds_the_surface_and_trials_that_were_stopped_help() -> None:
    few = correlation(Posterior(SPACE, [each for each in observed(10) if each.share == 1]))
    with_stopped = correlation(Posterior(SPACE, observed(10, stopped=30)))
    assert with_stopped > few
    assert with_stopped > 0.8
    best = max(UnitCube(SPACE).draw(np.random.default_rng(3), 300), key=surface)
    assert surface(best) - Posterior(SPACE, observed(30)).mean([best])[0] == pytest.approx(0, abs=0.02)


def test_it_knows_how_far_luck_and_its_own_ignorance_go() -> None:
    posterior = Posterior(SPACE, observed(40))
    assert LUCK / 3 < posterior.luck < 3 * LUCK
    unseen = UnitCube(SPACE).draw(np.random.default_rng(4), 200)
    mean, covariance = posterior.joint(unseen)
    deviation = np.sqrt(np.diag(covariance))
    better = [place for place, params in enumerate(unseen) if surface(params) > 0.56]  # worse ones are compressed
    errors = [(surface(unseen[place]) - mean[place]) / deviation[place] for place in better]
    assert 0.3 < float(np.sqrt(np.mean(np.square(errors)))) < 2
    np.testing.assert_allclose(posterior.mean(unseen), mean)
    assert np.linalg.eigvalsh(covariance).min() > -1e-6


def test_equal_trials_give_equal_posteriors() -> None:
    unseen = UnitCube(SPACE).draw(np.random.default_rng(6), 20)
    first, second = (Posterior(SPACE, observed(12, stopped=5)).mean(unseen) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_many_stopped_trials_are_thinned_and_none_that_finished() -> None:
    posterior = Posterior(SPACE, observed(20, stopped=MAX_OBSERVATIONS))
    assert correlation(posterior) > 0.8


def test_equal_accuracies_are_no_error_and_without_an_end_there_is_no_posterior() -> None:
    same = [Observation(each.trial, each.params, 1.0, 0.5) for each in observed(5)]
    assert Posterior(SPACE, same).mean([same[0].params])[0] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no trial ran to its end"):
        Posterior(SPACE, observed(0, stopped=5))


def test_a_space_of_single_values_and_rungs_far_below_the_end_are_no_trouble() -> None:
    single = {"mixup_alpha": CategoricalDistribution([8.0])}
    scores = (0.50, 0.51, 0.49, 0.50)
    found = Posterior(single, [Observation(n, {"mixup_alpha": 8.0}, 1.0, score) for n, score in enumerate(scores)])
    assert found.mean([{"mixup_alpha": 8.0}])[0] == pytest.approx(0.5, abs=0.01)
    near = observed(12)
    far = [Observation(e.trial, e.params, e.share, e.score - 0.4 * (e.share < 1)) for e in near]
    unseen = UnitCube(SPACE).draw(np.random.default_rng(8), 50)
    np.testing.assert_allclose(Posterior(SPACE, far).mean(unseen), Posterior(SPACE, near).mean(unseen), atol=1e-6)


@pytest.mark.filterwarnings("error")
def test_a_step_to_anywhere_in_the_fit_has_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def minimize(loss: Any, start: Any, **options: Any) -> Any:
        for far in (-1e4, 1e4):
            value, slopes = loss(start + far)
            assert np.isfinite([value, *slopes]).all()
            tried.append(value > loss(start)[0])
        return scipy.optimize.minimize(loss, start, **options)

    monkeypatch.setattr(posterior_module, "minimize", minimize)
    Posterior(SPACE, observed(6))
    assert tried == [True, True]


def test_what_is_drawn_lies_in_the_space_and_neighbours_are_near() -> None:
    cube = UnitCube(SPACE)
    generator = np.random.default_rng(7)
    drawn = cube.draw(generator, 200)
    assert {params["mentor"] for params in drawn} == {"threshold", "focal", "spcl_linear"}
    for params in [*drawn, *cube.draw_near(generator, drawn[0], 100)]:
        for name, distribution in SPACE.items():
            assert distribution._contains(distribution.to_internal_repr(params[name]))
    near = cube.draw_near(generator, drawn[0], 100)
    assert {params["mentor"] for params in near} == {drawn[0]["mentor"]}
    distances = np.linalg.norm(cube.encode(near) - cube.encode([drawn[0]]), axis=1)
    assert 0 < float(np.median(distances)) < 0.3
