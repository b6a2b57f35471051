"""The ablation table as plain cells, from the JSON document: what the Markdown, LaTeX and terminal
tables are written from.

An arm is a row, in the sweep's order. What did not converge prints its outcome in its number's
place, and how it ended in a note; nothing is averaged over survivors in silence.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.digits import places
from dashboards.outcomes import FAILED, OPEN
from dashboards.plain import plain
from dashboards.remarks import Document, percent, provenance_line, remarks

OTHERS = ("AP50", "AP75")
REASON = 200  # characters of a reason in a note; the whole one is in CSV and JSON


class TableError(ValueError):
    """A metric that the sweep has no numbers of; one line."""


@dataclass(frozen=True)
class Column:
    title: str
    number: bool = False  # set to the right


@dataclass(frozen=True)
class Entry:
    """One line of text, as it is: every format escapes it."""

    text: str = ""
    mark: str = ""  # of its note
    strong: bool = False


@dataclass(frozen=True)
class Table:
    title: str
    question: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[tuple[str, str], ...]  # mark and text: how cells ended
    remarks: tuple[str, ...]  # how to read it, and what is left out
    provenance: str


def ablation_table(
    document: Document, metric: str | None = None, others: Iterable[str] | None = None
) -> Table:
    """The table of one metric (None: the one that the sweep decides by), with the means of
    `others` beside it (None: AP50 and AP75, where there are any). Raises TableError for a metric
    that is not in the document."""
    name = document["target"]["name"] if metric is None else metric
    known = {m["name"]: m for m in document["metrics"]}
    if others is None:
        others = [other for other in OTHERS if other in known]
    shown = list(dict.fromkeys([name, *others]))
    for one in shown:
        if one not in known:
            raise TableError(_unknown(one, known))
    axes = [axis["name"] for axis in document["axes"]]
    compared = document["comparisons"].get(name)
    cells = _by_arm(document)
    ends = {key: _ends(of_arm) for key, of_arm in cells.items()}
    marks = _marks(text for text in ends.values() if text)
    columns = [*(Column(plain(axis)) for axis in axes), Column("n", True)]
    columns.append(Column(plain(name), True))
    if compared:
        columns.append(Column(f"difference [{percent(1 - compared['level'])} interval]", True))
        columns.append(Column("verdict"))
    columns += [Column(plain(other), True) for other in shown[1:]]
    rows = []
    for arm in document["arms"]:
        of_arm = cells[arm["key"]]
        found = compared["arms"][arm["key"]] if compared else None
        paired = _paired(found, of_arm, cells[document["baseline"]]) if found else ""
        clear = found is not None and found["words"] == "better" and not paired
        row = [Entry(plain(arm["levels"].get(axis, ""))) for axis in axes]
        row.append(Entry(f"{arm['settled']}/{arm['planned']}"))
        mark = marks.get(ends[arm["key"]], "")
        row.append(Entry(_value(arm, of_arm, known[name], True), mark, clear))
        if found:
            digits = known[name]["digits"] + 1
            row.append(Entry(_difference(found, digits, compared["min_effect"])))
            row.append(Entry(plain(found["words"]) + paired, strong=clear))
        row += [Entry(_value(arm, of_arm, known[other]), mark) for other in shown[1:]]
        rows.append(tuple(row))
    return Table(
        plain(document["sweep"]["name"]),
        plain(document["sweep"]["question"]),
        tuple(columns),
        tuple(rows),
        tuple((mark, text) for text, mark in marks.items()),
        tuple(remarks(document, name, compared, shown[1:])),
        provenance_line(document),
    )


# ---------------------------------------------------------------- entries


def _value(arm: Mapping[str, Any], cells: Sequence[Any], metric: Any, count: bool = False) -> str:
    """`0.408 ± 0.011`, and with `count` what has no part in it; outcomes where there is none."""
    found = arm["values"][metric["name"]]
    failed = {k: v for k, v in arm["outcomes"].items() if k != "converged"}
    told = [name if arm["planned"] == 1 else f"{n} {name}" for name, n in failed.items()]
    without = arm["outcomes"].get("converged", 0) - found["n"]
    if without:
        told.append("undefined" if arm["planned"] == 1 else f"{without} undefined")
    if not found["n"]:
        return ", ".join(told) or "no cells"
    mean = f"{found['mean']:z.{metric['digits']}f}"
    if found["sd"] is not None:
        mean += f" ± {found['sd']:.{metric['digits']}f}"
    return ", ".join([mean, *told]) if count else mean


def _difference(found: Mapping[str, Any], digits: int, matters: float | None) -> str:
    low, high = found["low"], found["high"]
    if found["difference"] is None:
        return ""
    if low is None or high is None:
        return f"{found['difference']:+z.{digits}f}"
    digits = places(digits, low, high, matters)
    return f"{found['difference']:+z.{digits}f} [{low:+z.{digits}f}, {high:+z.{digits}f}]"


def _paired(found: Mapping[str, Any], cells: Iterable[Any], base: Iterable[Any]) -> str:
    """` (2 of 3 seeds paired)` beside a verdict that leaves out a seed which has ended in both; not
    for what did not converge of the arm, of which the verdict's own words speak."""
    if found["verdict"] not in ("better", "worse", "not separable"):
        return ""
    ended = {c["seed"] for c in base if c["outcome"] not in OPEN}
    seeds = sum(c["seed"] in ended for c in cells if c["outcome"] not in (*OPEN, *FAILED))
    return f" ({found['pairs']} of {seeds} seeds paired)" if found["pairs"] < seeds else ""


# ---------------------------------------------------------------- notes


def _by_arm(document: Document) -> dict[str, list[Any]]:
    cells: dict[str, list[Any]] = {arm["key"]: [] for arm in document["arms"]}
    for cell in document["cells"]:
        cells[cell["arm"]].append(cell)
    return cells


def _ends(cells: Iterable[Any]) -> str:
    """How the cells of an arm ended that have no number to show."""
    quiet = ("converged", *OPEN)
    return "; ".join(_end(cell) for cell in cells if cell["outcome"] not in quiet)


def _end(cell: Mapping[str, Any]) -> str:
    step = "" if cell["step"] is None else f" at step {cell['step']}"
    reason = plain(cell["reason"])
    if len(reason) > REASON:
        reason = reason[: REASON - 1] + "…"
    return f"seed {cell['seed']}: {cell['outcome']}{step}" + (f", {reason}" if reason else "")


def _marks(texts: Iterable[str]) -> dict[str, str]:
    """A dagger for each text; numbered where there are several."""
    told = list(dict.fromkeys(texts))
    if len(told) == 1:
        return {told[0]: "†"}
    return {text: f"†{number}" for number, text in enumerate(told, 1)}


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 3, 0.6)
    hint = f"did you mean {' or '.join(map(plain, near))}?" if near else ""
    choices = f"there are {', '.join(map(plain, known))}"
    return f"no numbers of a metric {plain(name)!r}; {hint or choices}"
