"""Matplotlib figures as SVG images with a text alternative, all in the one style of the report's pages."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib import figure as mpl_figure
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from matplotlib.typing import RcKeyType

BEST, CONTROL, OTHER, MUTED = "#b8450f", "#1d1c1a", "#b3ada1", "#66625b"
STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "report",  # the same figure is the same file
    "savefig.dpi": 200,  # of lines drawn as pixels
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a class named $x$ is a name, not a formula
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.xmargin": 0.01,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": "#dcd8cf",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.markersize": 3.5,
}
MAX_VECTOR_LINES = 400  # more are drawn as pixels: each would add kilobytes to the file

Size = tuple[float, float]  # inches
WIDE: Size = (4.4, 3.0)
PANEL: Size = (3.7, 2.6)  # one of several figures side by side


@dataclass(frozen=True)
class Figure:
    """An SVG image as a data URI, what it shows in words, and its own width in CSS pixels."""

    src: str
    alt: str
    width: int


def draw_figure(plot: Callable[[Axes], None], alt: str, size: Size = WIDE) -> Figure:
    """Returns a figure of one pair of axes, which `plot` fills."""
    with mpl.rc_context(STYLE):
        figure = mpl_figure.Figure(figsize=size)
        plot(figure.add_subplot())
        svg = io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
    return Figure(f"data:image/svg+xml;base64,{base64.b64encode(svg.getvalue()).decode()}", alt, round(96 * size[0]))


def label_epochs(axes: Axes, rungs: Sequence[int] = ()) -> None:
    """Makes x an axis of whole epochs, with vertical lines at the rungs, where trials are compared."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    for rung in rungs:
        axes.axvline(rung, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)


def show_legend(axes: Axes, columns: int = 2) -> None:
    """Names the labelled lines above the axes, where the legend hides no data."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, handlelength=3, borderpad=0)
