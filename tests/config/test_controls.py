"""The controls: what each sets beside the settings of its search."""

from __future__ import annotations

import pytest

from tune_mentormix.config.controls import control_configs, published_row


@pytest.mark.parametrize(("noise", "second_reweight"), [(0.2, False), (0.4, False), (0.6, True), (0.8, True)])
@pytest.mark.parametrize("classes", [10, 100])
def test_the_published_control_has_no_weight_decay_where_the_published_run_had_none(
    noise: float, second_reweight: bool, classes: int
) -> None:
    controls = control_configs(["published", "mixup", "plain"], classes, noise)

    assert list(controls) == ["published", "mixup", "plain"]
    assert published_row(controls["published"]) == noise
    assert controls["published"]["second_reweight"] is second_reweight
    assert controls["published"].get("decay_under_second_reweight", True) is not second_reweight
    assert all("decay_under_second_reweight" not in controls[name] for name in ("mixup", "plain"))
