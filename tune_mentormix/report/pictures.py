"""Matplotlib figures as inline SVG that takes its colours from the page, so that light, dark and print all fit.

Figures are drawn in stand-in colours, each of which becomes a variable of `style.css`. Text stays text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.typing import RcKeyType

INK, MUTED, FAINT, TRIAL, ACCENT, OVER_LINES = (f"#00000{n}" for n in range(1, 7))
GREY_PIXELS, ACCENT_PIXELS = "#8f8a80", "#d9692e"  # pixels cannot follow the page: legible on light and dark
_CSS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    FAINT: "var(--faint)",
    TRIAL: "var(--trial)",
    ACCENT: "var(--accent)",
    # Text that lines pass behind, kept legible by an outline in the page's own colour.
    OVER_LINES: "var(--muted); stroke: var(--paper); stroke-width: 2.5px; paint-order: stroke",
}
FONT_SIZE = 9.0
STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a class named $x$ is a name, not a formula
    "font.size": FONT_SIZE,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
}
_MOST_ENLARGED = 1.17  # on a wide page
_MOST_VECTOR_LINES = 400  # of more, lines are drawn as pixels: the file would grow by kilobytes a line

Size = tuple[float, float]  # inches
WIDE: Size = (7.6, 3.5)
NARROW: Size = (3.7, 3.1)


@dataclass(frozen=True)
class Picture:
    """A figure for wide pages and for phones, and what to say to those who do not see it."""

    wide: Markup
    narrow: Markup
    alt: str


def picture(draw: Callable[[Axes], None], alt: str, wide: Size = WIDE, narrow: Size = NARROW) -> Picture:
    """Draws one pair of axes at both sizes."""

    def drawn(size: Size) -> Markup:
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=size)
            draw(figure.add_subplot())
            return as_svg(figure)

    return at_both_sizes(drawn, alt, wide, narrow)


def at_both_sizes(draw: Callable[[Size], Markup], alt: str, wide: Size, narrow: Size) -> Picture:
    """Draws for wide pages and for phones; equal sizes are drawn once."""
    drawn = draw(wide)
    return Picture(drawn, drawn if narrow == wide else draw(narrow), alt)


def as_pixels(lines: int) -> bool:
    """Whether so many lines had better be pixels."""
    return lines > _MOST_VECTOR_LINES


def mark_rungs(axes: Axes, rungs: list[int]) -> None:
    """Vertical lines at the epochs where trials are compared."""
    for rung in rungs:
        axes.axvline(rung, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)


def as_svg(figure: Figure) -> Markup:
    """The figure for inlining; within `rc_context(STYLE)`."""
    figure.set_layout_engine("constrained")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, dpi=200)
    return _for_inlining(buffer.getvalue(), figure.get_figwidth())


def _for_inlining(document: str, inches: float) -> Markup:
    """Only the `svg` element, without metadata, group names or needless digits, its colours made variables."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    widest = f"max-width: {inches * _MOST_ENLARGED:.2f}in"
    head = rf'<svg viewBox="\1" style="{widest}" aria-hidden="true">'
    svg = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', head, svg, count=1)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)
    svg = svg.replace("xlink:href", "href")
    for colour, css in _CSS.items():
        svg = svg.replace(colour, css)
    return Markup(svg)  # matplotlib escaped the text in it
