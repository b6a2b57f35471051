"""The ablation table for the terminal, with the conclusions beneath."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from dashboards.tables import Column, Entry, Table

WIDTH = 120  # columns, where no terminal says how wide it is


def to_rich(table: Table, conclusions: Iterable[str] = ()) -> RenderableType:
    """Names are text, never markup."""
    grid = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        if column.number:
            grid.add_column(Text(column.title), justify="right", no_wrap=True, overflow="fold")
        else:
            grid.add_column(Text(column.title), overflow="fold")
    for row in table.rows:
        grid.add_row(*map(_text, row, table.columns))
    title = Text(table.title, style="bold")
    if table.question:
        title.append(f": {table.question}", style="not bold")
    said = [Text(f"- {line}") for line in conclusions]
    notes = [Text(f"{mark} {text}", style="yellow") for mark, text in table.notes]
    notes += [Text()] if notes else []
    remarks = [Text(text, style="dim") for text in (*table.remarks, table.provenance)]
    said += [Text()] if said else []
    return Group(title, grid, *notes, *said, *remarks)


def as_text(shown: RenderableType, width: int | None = None) -> str:
    """With colours where standard output is a terminal, and as wide as that is; else plain, and
    WIDTH columns wide."""
    if width is None and not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        width = WIDTH
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(shown)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _text(entry: Entry, column: Column) -> Text:
    """The outcomes beside a number have lines of their own: numbers stay one below the other."""
    shown = entry.text
    if column.number and not shown.endswith("]"):
        shown = shown.replace(", ", "\n")
    text = Text(shown, style="bold green" if entry.strong else "")
    return text.append(entry.mark, style="yellow") if entry.mark else text
