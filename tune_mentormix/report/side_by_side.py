"""Searches side by side as one HTML file, in the report's own style."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes

from tune_mentormix.report.page import refuse_folder, write_page
from tune_mentormix.report.pictures import ACCENT, INK, OVER_LINES, Picture, picture
from tune_mentormix.results.comparison import Comparison, result_rows, setting_rows, verdict

_LINE_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (7, 2, 1, 2)))


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Writes the page to the file `out` and returns its path. Raises RequestError if that cannot be written."""
    refuse_folder(out)
    return write_page(
        out,
        "compare.html",
        comparison=comparison,
        verdict=verdict(comparison),
        results=result_rows(comparison),
        settings=setting_rows(comparison),
        curves=_curves(comparison),
    )


def _curves(comparison: Comparison) -> Picture | None:
    """The best of each search by epoch, the highest of them in colour; None while none has reported."""
    bests = [(search.experiment.name, search.experiment.best()) for search in comparison.searches]
    shown = [(name, best) for name, best in bests if best]
    if not shown:
        return None
    highest = max(best.val_accuracy or 0.0 for _, best in shown)

    def draw(axes: Axes) -> None:
        for number, (name, best) in enumerate(shown):
            points = [(epoch, accuracy) for epoch, accuracy in best.curve.items() if accuracy is not None]
            colour, width = (ACCENT, 2.2) if best.val_accuracy == highest else (INK, 1.3)
            style = _LINE_STYLES[number % len(_LINE_STYLES)]
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=width, linestyle=style, label=name)
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation accuracy")
        axes.grid(axis="y")
        axes.margins(x=0.01)
        axes.legend(fontsize=8.5, labelcolor=OVER_LINES, handlelength=2.8)

    return picture(draw, "Validation accuracy by epoch of the best trial of each search.")
