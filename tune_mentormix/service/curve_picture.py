"""Learning curves of all trials as inline SVG, small however many there are; colours are the page's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup

from tune_mentormix.experiment.experiment import Experiment, Trial
from tune_mentormix.formatting import format_accuracy

MOST_POINTS = 9_000  # of all curves in one picture, about six bytes each
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 10, 34
_TICKS = 5


@dataclass(frozen=True)
class _Frame:
    """Where an epoch and an accuracy lie in the picture."""

    width: int
    height: int
    epochs: int
    low: float
    high: float

    def x(self, epoch: float) -> int:
        return round(_LEFT + (self.width - _LEFT - _RIGHT) * epoch / self.epochs)

    def y(self, accuracy: float) -> int:
        part = (accuracy - self.low) / (self.high - self.low)
        return round(self.height - _BOTTOM - (self.height - _TOP - _BOTTOM) * part)


@dataclass(frozen=True)
class CurvePicture:
    """For wide pages and for phones, and in words."""

    wide: Markup
    narrow: Markup
    alt: str


def curve_picture(experiment: Experiment) -> CurvePicture | None:
    """All curves, the best and the controls on top; None before the first report."""
    trials = [trial for trial in experiment.trials.values() if any(v is not None for v in trial.curve.values())]
    if not trials:
        return None
    values = [value for trial in trials for value in trial.curve.values() if value is not None]
    low, high = _rounded_range(min(values), max(values))
    epochs = max(int(trial.config.get("epochs") or trial.epoch) for trial in trials)
    best = experiment.best()
    said = f"; the best is trial {best.number} with {format_accuracy(best.val_accuracy)}" if best else ""
    alt = f"Learning curves of {len(trials)} trials on {experiment.labels_kind} validation labels{said}."

    def drawn(width: int, height: int, points: int) -> Markup:
        return _draw(_Frame(width, height, epochs, low, high), experiment, trials, best, points)

    return CurvePicture(drawn(860, 380, MOST_POINTS), drawn(380, 320, MOST_POINTS // 2), alt)


def _draw(frame: _Frame, experiment: Experiment, trials: list[Trial], best: Trial | None, points: int) -> Markup:
    marked = [trial for trial in trials if trial is best or trial.control]
    plain = [trial for trial in trials if trial is not best and not trial.control]
    total = sum(len(trial.reports) for trial in plain)
    step = max(1, ceil(total / points))
    parts = [f'<svg viewBox="0 0 {frame.width} {frame.height}" aria-hidden="true" class="curves">', *_axes(frame)]
    parts += [
        f'<path class="rung" d="M{frame.x(rung)} {_TOP}V{frame.height - _BOTTOM}"/>'
        for rung in experiment.rungs
        if rung <= frame.epochs
    ]
    parts.append(f'<path class="trial" d="{"".join(_line(frame, trial, step) for trial in plain)}"/>')
    for trial in sorted(marked, key=lambda trial: trial is best):
        kind = "best" if trial is best else f"control {trial.control if str(trial.control).isalpha() else ''}"
        parts.append(f'<path class="{kind}" d="{_line(frame, trial, 1)}"/>')
    return Markup("".join([*parts, "</svg>"]))  # numbers, and words of this file


def _line(frame: _Frame, trial: Trial, step: int) -> str:
    """Every so many epochs and the last one, each relative to the one before."""
    known = [(epoch, value) for epoch, value in trial.curve.items() if value is not None]
    if not known:
        return ""
    chosen = known[::step] if (len(known) - 1) % step == 0 else [*known[::step], known[-1]]
    points = [(frame.x(epoch), frame.y(value)) for epoch, value in chosen]
    x, y = points[0]
    if len(points) == 1:
        return f"M{x} {y}h1"
    parts = [f"M{x} {y}l"]
    for to_x, to_y in points[1:]:
        parts.append(f"{to_x - x} {to_y - y} ")
        x, y = to_x, to_y
    return "".join(parts).rstrip().replace(" -", "-")


def _axes(frame: _Frame) -> list[str]:
    left, right, bottom = _LEFT, frame.width - _RIGHT, frame.height - _BOTTOM
    parts = []
    for value in _ticks(frame.low, frame.high):
        y = frame.y(value)
        parts.append(f'<path class="grid" d="M{left} {y}H{right}"/><text x="{left - 6}" y="{y + 4}" class="y">')
        parts.append(f"{value:g}</text>")
    for epoch in _ticks(0, frame.epochs):
        if epoch == int(epoch):
            parts.append(f'<text x="{frame.x(epoch)}" y="{bottom + 16}" class="x">{epoch:g}</text>')
    parts.append(f'<text x="{(left + right) // 2}" y="{bottom + 31}" class="x">epoch</text>')
    return parts


def _rounded_range(low: float, high: float) -> tuple[float, float]:
    """From a tick below to a tick above."""
    if high - low < 1e-6:
        low, high = low - 0.05, high + 0.05
    step = _step(low, high)
    return floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step


def _ticks(low: float, high: float) -> Sequence[float]:
    step = _step(low, high)
    first = ceil(low / step - 1e-9)
    last = floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _step(low: float, high: float) -> float:
    """1, 2 or 5 times a power of ten."""
    rough = (high - low) / _TICKS
    power: float = 10.0 ** floor(log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
