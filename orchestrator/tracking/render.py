"""The ablation table as text: for the terminal, as Markdown, and cell by cell as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from dashboards.outcomes import FAILED, FAULTS
from detcore.result import METRICS
from orchestrator.tracking.table import Entry, Row, Table

VALUES = ("train_hours", "eval_s_per_img", "images_per_s", "gpu_hours", "peak_mem_gb", "params_m")


def to_rich(table: Table) -> RenderableType:
    """For the terminal. Names are text, never markup."""
    grid = RichTable(box=box.SIMPLE_HEAD, title=Text(table.title), title_justify="left")
    for name in table.names:
        grid.add_column(Text(name), no_wrap=False)
    for column in table.columns:
        grid.add_column(Text(column))
    for head, entries in table.lines:
        cells = [Text(entry.text, style=_style(entry)) for entry in entries]
        grid.add_row(*(Text(level, style="bold") for level in head), *cells)
    return Group(grid, *(Text(note) for note in table.notes))


def to_markdown(table: Table) -> str:
    """GitHub's table format; names cannot break out of their cells."""
    lines = [f"**{_escape(table.title)}**", ""]
    lines.append(_pipes([*table.names, *table.columns]))
    lines.append("|" + " --- |" * (len(table.names) + len(table.columns)))
    lines += [_pipes([*head, *(e.text for e in entries)]) for head, entries in table.lines]
    lines += ["", *(f"- {_escape(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def to_csv(rows: Sequence[Row], axes: Iterable[str]) -> str:
    """One line per cell: levels, seed, outcome, the 12 metrics, costs. Nothing is rounded."""
    names = list(axes)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["id", "label", *names, "seed", "outcome", "step", "reason"]
    writer.writerow([*head, *METRICS, *VALUES, "run_id"])
    for row in rows:
        levels = [row.axes.get(name, "") for name in names]
        numbers = [row.metrics.get(name, "") for name in METRICS]
        numbers += [row.values.get(name, "") for name in VALUES]
        step = "" if row.step is None else row.step
        start = [row.id, row.label, *levels, row.seed, row.outcome, step, row.reason]
        writer.writerow([*start, *numbers, row.run_id])
    return out.getvalue()


def _style(entry: Entry) -> str:
    if entry.outcomes & set(FAULTS):
        return "magenta"
    if entry.outcomes & set(FAILED):
        return "yellow"
    return "" if "converged" in entry.outcomes else "dim"


def _pipes(cells: Iterable[str]) -> str:
    return "| " + " | ".join(_escape(cell) for cell in cells) + " |"


def _escape(text: str) -> str:
    for mark in "\\`*_[]|<>~#":
        text = text.replace(mark, "&lt;" if mark == "<" else f"\\{mark}")
    return " ".join(text.split())
