"""What a comparison of searches shows, line by line: the same rows on the terminal and on the page."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from tune_mentormix.console import stdout
from tune_mentormix.results.comparison import Comparison, result_rows, setting_rows, verdict


def print_comparison(comparison: Comparison) -> None:
    """The verdict and both tables."""
    stdout.print(verdict(comparison), style="bold yellow" if comparison.obstacles else None, markup=False)
    names = [search.experiment.name for search in comparison.searches]
    for rows in (result_rows(comparison), setting_rows(comparison)):
        if not rows:
            continue
        table = Table("", *names, box=None, pad_edge=False)
        for title, cells in rows:
            table.add_row(title, *map(Text, cells))
        stdout.print()
        stdout.print(table)
    if not comparison.differing:
        stdout.print("\nTheir settings are the same.")
