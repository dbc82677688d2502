from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from trainables.schedules import burn_in_end
from trainables.settings import PRESETS, TrialSettings
from tune_mentormix.config.controls import control_configs
from tune_mentormix.config.search_space import check_grid, grid_points, grid_values, load_space, parse_space
from tune_mentormix.errors import RequestError
from tune_mentormix.storage.yaml_files import YamlDocument, parse_yaml

SHIPPED = {"default": {}, "published": {}, "wide": {}, "finetune": PRESETS["finetune"]}  # with the preset it is for


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("noise", [0.2, 0.4, 0.6, 0.8])
@pytest.mark.parametrize("classes", [10, 100])
def test_every_shipped_space_holds_every_published_setting(name: str, noise: float, classes: int) -> None:
    space = parse_space(load_space(name))
    published = TrialSettings(**SHIPPED[name], **control_configs(["published"], classes, noise)["published"])
    assert space.searched_values(published.model_dump()) is not None


@pytest.mark.parametrize("name", SHIPPED)
def test_baselines_lie_outside_every_shipped_space(name: str) -> None:
    space = parse_space(load_space(name))
    plain = TrialSettings(**control_configs(["plain"], 10)["plain"]).model_dump()
    assert space.searched_values(plain) is None


def test_a_line_becomes_the_distribution_that_its_hyperparameter_needs() -> None:
    lines = [
        "mixup_alpha: {low: 1e-1, high: 8, log: true}",
        "batch_size: {low: 32, high: 64}",
        "mentor: {choices: [focal]}",
        "ema: 0.1",
    ]
    space = parse_space(parse_yaml("\n".join(lines), "s.yaml"))
    assert space.distributions == {
        "mixup_alpha": FloatDistribution(0.1, 8, log=True),
        "batch_size": IntDistribution(32, 64),
        "mentor": CategoricalDistribution(["focal"]),
    }
    assert space.fixed == {"ema": 0.1}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("loss_p_percentile: {low: 0.1, high: 1.7}", r"loss_p_percentile must be a number in \(0, 1\), got 1.7"),
        ("loss_p_percentile: 1", r"loss_p_percentile must be a number in \(0, 1\), got 1"),
        ("burn_in: {low: 0, high: 100}", r"burn_in must be a number in \[0, 100\), got 100"),
        ("burn_in: {low: 20, high: 10}", "low must be below high, got low 20 and high 10"),
        ("burn_in: {low: 20, high: 20}", "low must be below high"),
        ("mixup_alpha: {low: 0, high: 4, log: true}", "low of a log range must be above 0, got 0"),
        ("mixup_alpha: {low: -1, high: 4}", "mixup_alpha must be a number of at least 0, got -1"),
        ("mixup_alpha: {low: 1, high: 4, log: 3}", "log must be true or false, got 3"),
        ("mixup_alpha: {low: 1}", "must be {low: …, high: …, log: true|false, step: …}"),
        ("mixup_alpha: {low: 1, high: 2, steps: 1}", "must be {low: …"),
        ("burn_in: {low: 0, high: 15, step: 2}", "burn_in: step must be a number that divides high − low"),
        ("batch_size: {low: 2, high: 9, step: 0.5}", "batch_size: step must be a whole number that divides"),
        ("mixup_alpha: {low: 1, high: 8, step: 1, log: true}", "without log, got 1"),
        ("mentor: {choices: []}", r"mentor must be {choices: \[at least one value\]}"),
        ("mentor: {choices: [focal, focal]}", "names a choice twice"),
        ("mentor: {choices: [treshold]}", "unknown mentor 'treshold'; did you mean 'threshold'?"),
        ("mentor: {low: 1, high: 2}", "mentor must be a value or"),
        ("mixup_alfa: 3", "unknown hyperparameter 'mixup_alfa'; did you mean 'mixup_alpha'?"),
        ("epochs: {low: 1, high: 2}", "use --epochs"),
        ("burn_in: 10", "searches nothing"),
    ],
)
def test_a_wrong_line_is_refused_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(RequestError, match=complaint.replace("|", r"\|").replace("{", r"\{")) as caught:
        parse_space(parse_yaml("# a comment\n" + text, "s.yaml"))
    assert "s.yaml" in str(caught.value)


def test_an_unknown_space_is_named_with_the_known_ones() -> None:
    with pytest.raises(RequestError, match=r"unknown space 'defalt'; did you mean 'default'\? \(known: default"):
        load_space("defalt")


def test_a_space_is_read_from_a_path(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("burn_in: {low: 0, high: 5}\n")
    assert parse_space(load_space(str(tmp_path / "mine.yaml"))).highest("burn_in", {}) == 5


@given(low=st.floats(0.001, 10), width=st.floats(0.001, 10))
def test_exactly_the_values_of_a_range_lie_inside(low: float, width: float) -> None:
    space = parse_space(YamlDocument({"mixup_alpha": {"low": low, "high": low + width}}, "s"))
    inside, outside = low + width / 2, low + 2 * width
    assert space.searched_values({"mixup_alpha": inside}) == {"mixup_alpha": inside}
    assert space.searched_values({"mixup_alpha": outside}) is None


def test_a_value_between_two_steps_counts_as_the_higher_one_as_a_burn_in_acts() -> None:
    space = parse_space(load_space("default"))
    assert space.distributions["burn_in"] == FloatDistribution(0, 15, step=1)
    config = TrialSettings(burn_in=10.29).model_dump()
    assert space.values_inside(config) == {name: config[name] for name in space.distributions} | {"burn_in": 11}
    assert burn_in_end(10.29, 5000) == burn_in_end(11, 5000) > burn_in_end(10, 5000)
    assert space.values_inside(config | {"burn_in": 15.2}) is None


def test_the_highest_value_is_known_for_ranges_choices_and_fixed_values() -> None:
    space = parse_space(parse_yaml("ema: {choices: [0.1, 0.2]}\nburn_in: 12\n", "s"))
    highest = [space.highest(name, {"mixup_alpha": 9}) for name in ("ema", "burn_in", "mixup_alpha", "weight_decay")]
    assert highest == [0.2, 12, 9, 2e-4]


def test_a_grid_of_a_range_is_refused_with_the_way_out() -> None:
    document = YamlDocument({"mixup_alpha": {"low": 1, "high": 8}}, "mine.yaml")
    with pytest.raises(RequestError, match=r"sampler grid needs values to walk through, but mixup_alpha is a range"):
        check_grid(parse_space(document), document)


def test_a_grid_too_large_to_walk_is_refused_without_being_written_out() -> None:
    document = YamlDocument({"batch_size": {"low": 2, "high": 1_000_000_000}}, "s.yaml")
    with pytest.raises(RequestError, match=r"has 999,999,999 points, at most are 100,000"):
        check_grid(parse_space(document), document)


def test_a_grid_of_choices_whole_numbers_and_steps_is_walked() -> None:
    lines = {"mentor": {"choices": ["focal"]}, "batch_size": {"low": 2, "high": 9}}
    document = YamlDocument(lines | {"burn_in": {"low": 0, "high": 10, "step": 2.5}}, "mine.yaml")
    space = parse_space(document)
    check_grid(space, document)
    assert grid_points(space.distributions) == 8 * 5
    assert grid_values(space.distributions["burn_in"]) == [0, 2.5, 5, 7.5, 10]
