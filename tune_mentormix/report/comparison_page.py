"""The comparison of several searches as one HTML file, in the style of the report."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes

from tune_mentormix.report.figures import BEST, CONTROL, Figure, draw_figure, label_epochs, show_legend
from tune_mentormix.report.page import refuse_folder, write_page
from tune_mentormix.results.comparison import Comparison, result_rows, setting_rows, verdict

_LINE_STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (7, 2, 1, 2)))
_MAX_NAME = 40  # letters in the legend; an experiment's name may have 64


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Writes the page to the file `out` and returns its path. Raises RequestError if it cannot be written."""
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


def _curves(comparison: Comparison) -> Figure | None:
    """The best trial of each search by epoch, the highest in colour; None before the first report."""
    bests = [(search.experiment.name, search.experiment.best()) for search in comparison.searches]
    shown = [(name, best) for name, best in bests if best]
    if not shown:
        return None
    highest = max(best.val_accuracy or 0.0 for _, best in shown)

    def plot(axes: Axes) -> None:
        for number, (name, best) in enumerate(shown):
            points = [(epoch, accuracy) for epoch, accuracy in best.curve.items() if accuracy is not None]
            colour, width = (BEST, 2.2) if best.val_accuracy == highest else (CONTROL, 1.3)
            style = _LINE_STYLES[number % len(_LINE_STYLES)]
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                linewidth=width,
                linestyle=style,
                label=name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}…",
            )
        axes.set_ylabel("validation accuracy")
        label_epochs(axes)
        axes.grid(axis="y")
        show_legend(axes, columns=1)

    return draw_figure(plot, "Validation accuracy by epoch of the best trial of each search.")
