"""Optuna's own plots as pictures of a report: what its functions draw is restyled here, and nowhere else.

They draw in fixed colours on grey or white, with titles and legends, through pyplot and after a change of the global
style. What reaches the report has the report's colours; what pyplot was before, it is again afterwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import matplotlib as mpl
from markupsafe import Markup
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from optuna.exceptions import ExperimentalWarning

from tune_mentormix.report.pictures import FAINT, FONT_SIZE, INK, MUTED, STYLE, Picture, Size, as_svg, at_both_sizes

_NO_DISPLAY = "agg"


def optuna_picture(
    plot: Callable[[], Axes], finish: Callable[[Axes], None], alt: str, wide: Size, narrow: Size
) -> Picture:
    """A picture of one of Optuna's plots.

    Args:
        plot: calls a function of `optuna.visualization.matplotlib` and returns its axes.
        finish: colours the data, which are still in Optuna's colours, and adds marks of our own.
        alt: said to those who do not see it.
        wide: inches on a wide page.
        narrow: inches on a phone.
    """

    def draw(size: Size) -> Markup:
        with _own_pyplot(), mpl.rc_context(STYLE):
            axes = plot()
            mpl.rcParams.update(STYLE)  # for our own marks: Optuna set a style of its own
            figure = axes.figure
            assert isinstance(figure, Figure)
            figure.set_size_inches(size)
            _restyle(figure)
            finish(axes)
            return as_svg(figure)

    return at_both_sizes(draw, alt, wide, narrow)


def panel_title(axes: Axes, title: str) -> None:
    """A title for one of several small pictures side by side."""
    axes.set_title(title, fontsize=FONT_SIZE, loc="left", color=INK)


def _restyle(figure: Figure) -> None:
    for axes in figure.axes:
        for drawn in (*axes.collections, *axes.images):
            if drawn.colorbar:
                drawn.colorbar.remove()
    whole = figure.add_gridspec(1, 1)[0]
    for axes in figure.axes:
        axes.set_subplotspec(whole)  # without the place that a colour bar took
        axes.set_facecolor("none")
        axes.grid(False)
        for loc in ("left", "center", "right"):
            axes.set_title("", loc=loc)
        legend = axes.get_legend()
        if legend:
            legend.remove()
        for side, spine in axes.spines.items():
            spine.set(color=FAINT, linewidth=0.8, visible=side in ("left", "bottom"))
        axes.tick_params(which="both", color=FAINT, labelcolor=MUTED, labelsize=FONT_SIZE, grid_color=FAINT)
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(color=MUTED, fontsize=FONT_SIZE)


@contextmanager
def _own_pyplot() -> Iterator[None]:
    """Pyplot without a display, and as it was afterwards; where no backend was chosen before, this one stays."""
    backend_before = mpl.get_backend(auto_select=False)
    figures_before = set(plt.get_fignums())
    plt.switch_backend(_NO_DISPLAY)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            warnings.filterwarnings("ignore", "Attempting to set identical", UserWarning)  # where trials are alike
            yield
    finally:
        for number in set(plt.get_fignums()) - figures_before:
            plt.close(number)
        if backend_before:
            plt.switch_backend(backend_before)
