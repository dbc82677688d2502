from tune_mentormix.results.statistics import eliminated_candidates

SEEDS = (11, 12, 13)
LEADER = [0.60, 0.61, 0.62]
HOPELESS = [0.10, 0.12, 0.11]
CLOSE = [0.59, 0.62, 0.60]


def race(**accuracies: list[float]) -> dict[str, dict[int, float]]:
    return {name: dict(zip(SEEDS, values, strict=True)) for name, values in accuracies.items()}


def test_a_candidate_far_behind_on_every_seed_is_eliminated_with_a_reason() -> None:
    assert eliminated_candidates(race(best=LEADER, bad=HOPELESS, close=CLOSE), kept=()) == {
        "bad": "50.0 points behind best after 3 seeds (p = 6.7e-05)"
    }


def test_a_control_is_never_eliminated_but_may_lead() -> None:
    assert eliminated_candidates(race(best=LEADER, published=HOPELESS), kept=["published"]) == {}
    assert set(eliminated_candidates(race(published=LEADER, bad=HOPELESS), kept=["published"])) == {"bad"}


def test_more_candidates_need_more_proof() -> None:
    behind = [0.54, 0.57, 0.55]  # p = 0.012: enough against 0.05, too little against 0.05 / 5
    alone = race(best=LEADER, behind=behind)
    assert set(eliminated_candidates(alone, kept=())) == {"behind"}
    among_many = alone | race(a=CLOSE, b=CLOSE, c=CLOSE, d=CLOSE)
    assert eliminated_candidates(among_many, kept=()) == {}


def test_the_only_candidate_is_not_eliminated() -> None:
    assert eliminated_candidates(race(best=LEADER), kept=()) == {}
