from tune_mentormix.experiment.events import Event, Failed, Finished, Proposed, Report, Stopped
from tune_mentormix.search.stopper import Plateau


def trial(
    number: int,
    accuracy: float | None,
    end: type[Finished | Stopped | Failed] = Finished,
    control: str | None = None,
) -> list[Event]:
    """The events of a whole trial."""
    return [
        Proposed(trial=number, config={}, control=control),
        Report(trial=number, epoch=1, val_accuracy=accuracy),
        end(trial=number),
    ]


def after(plateau: Plateau, *trials: list[Event]) -> bool:
    for events in trials:
        for event in events:
            plateau.apply(event)
    return plateau.is_reached


def test_trials_without_a_better_result_use_it_up_however_they_end() -> None:
    plateau = Plateau(3)
    assert not after(plateau, trial(0, 0.5), trial(1, 0.4), trial(2, 0.9, Stopped))
    assert after(plateau, trial(3, None, Failed))


def test_a_better_result_renews_it() -> None:
    assert not after(Plateau(2), trial(0, 0.5), trial(1, 0.5), trial(2, 0.6), trial(3, 0.1))


def test_baselines_count_for_nothing_and_the_published_setting_counts() -> None:
    assert not after(Plateau(1), trial(0, 0.9, control="plain"), trial(1, 0.5), trial(2, 0.4, control="mixup"))
    assert after(Plateau(1), trial(0, 0.9, control="published"), trial(1, 0.5))


def test_it_waits_for_the_first_result_and_none_lasts_for_ever() -> None:
    assert not after(Plateau(1), trial(0, 0.5, Stopped), trial(1, None, Failed))
    assert not after(Plateau(None), *(trial(number, 0.5) for number in range(50)))
