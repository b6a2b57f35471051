"""The ablation table as plain cells, from the JSON document: what the Markdown, LaTeX and terminal
tables are written from.

An arm is a row, in the sweep's order. What did not converge prints its outcome in its number's
place, and how it ended in a note; nothing is averaged over survivors in silence.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.digits import places, written

Document = Mapping[str, Any]

OTHERS = ("AP50", "AP75")
REASON = 200  # characters of a reason in a note; the whole one is in CSV and JSON
ALIASES = 12  # effects of a fractional block that are told; all are in JSON
_DIRECTIONS = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


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
        columns.append(Column(f"difference [{_percent(1 - compared['level'])} interval]", True))
        columns.append(Column("verdict"))
    columns += [Column(plain(other), True) for other in shown[1:]]
    rows = []
    for arm in document["arms"]:
        of_arm = cells[arm["key"]]
        found = compared["arms"][arm["key"]] if compared else None
        clear = found is not None and found["words"] == "better"
        row = [Entry(plain(arm["levels"].get(axis, ""))) for axis in axes]
        row.append(Entry(f"{arm['settled']}/{arm['planned']}"))
        mark = marks.get(ends[arm["key"]], "")
        row.append(Entry(_value(arm, of_arm, known[name], True), mark, clear))
        if found:
            digits = known[name]["digits"] + 1
            row.append(Entry(_difference(found, digits, compared["min_effect"])))
            row.append(Entry(plain(found["words"]), strong=clear))
        row += [Entry(_value(arm, of_arm, known[other]), mark) for other in shown[1:]]
        rows.append(tuple(row))
    return Table(
        plain(document["sweep"]["name"]),
        plain(document["sweep"]["question"]),
        tuple(columns),
        tuple(rows),
        tuple((mark, text) for text, mark in marks.items()),
        tuple(_remarks(document, name, compared, shown[1:])),
        provenance_line(document),
    )


def plain(text: object) -> str:
    """On one line, without the characters that steer a terminal or turn the direction of writing:
    what a name says is what is seen."""
    kept = " ".join(str(text).split())
    return "".join(c for c in kept if unicodedata.category(c) not in ("Cc", "Cs")).translate(
        {ord(c): None for c in _DIRECTIONS}
    )


def provenance_line(document: Document) -> str:
    """Where the numbers come from, on one line."""
    found, totals = document["provenance"], document["totals"]
    many = totals["cells"] != 1
    parts = [f"{totals['cells']} cell{'s' * many}, {totals['settled']} settled"]
    if document["seeds"]:
        seeds = ", ".join(map(str, document["seeds"]))
        parts.append(f"seed{'s' * (len(document['seeds']) != 1)} {seeds}")
    if document["sweep"]["run_id"]:
        parts.append(f"MLflow run {_short(document['sweep']['run_id'])}")
    digest = found["sweep_sha256"]
    parts.append(f"sweep sha256 {_short(digest)}" if digest else "sweep hash not known")
    dirty = " with uncommitted changes" if found["uncommitted_changes"] else ""
    parts.append(_named("commit", found["commits"]) + dirty)
    parts.append(_named("data", found["data"]))
    hours = f"{found['gpu_hours']:.2f} GPU-hours"
    if not found["gpu_hours"]:  # trained on CPUs
        hours += f" ({totals['train_hours']:.2f} hours of training)"
    parts.append(hours)
    return "; ".join(parts)


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


# ---------------------------------------------------------------- notes


def _by_arm(document: Document) -> dict[str, list[Any]]:
    cells: dict[str, list[Any]] = {arm["key"]: [] for arm in document["arms"]}
    for cell in document["cells"]:
        cells[cell["arm"]].append(cell)
    return cells


def _ends(cells: Iterable[Any]) -> str:
    """How the cells of an arm ended that have no number to show."""
    quiet = ("converged", "waiting", "running")
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


def _remarks(
    document: Document, name: str, compared: Mapping[str, Any] | None, others: Sequence[str]
) -> Iterable[str]:
    target = document["target"]["name"]
    state = document["sweep"]["state"]
    if state != "finished":
        yield f"the sweep is not finished ({plain(state)})"
    yield (
        "n: settled cells of those planned; numbers are mean ± standard deviation over the seeds "
        "that converged"
    )
    if compared:
        yield from _how_compared(document, compared)
    else:
        yield "there is no baseline with cells: nothing is compared"
    if compared and name != target:
        yield (
            f"the sweep decides by {plain(target)}: the error rates above are those of one table, "
            f"and looking at {plain(name)} as well adds to them"
        )
    yield from _over_images(document, compared)
    if others:
        verb = "has" if len(others) == 1 else "have"
        listed = ", ".join(map(plain, others))
        yield f"{listed} {verb} no verdict: differences there are not adjusted claims"
    yield from _left_out(document)
    for screen in document["aliases"]:
        yield from _aliased(screen)
    yield from (f"caution: {plain(text)}" for text in document["cautions"])


def _over_images(document: Document, compared: Mapping[str, Any] | None) -> Iterable[str]:
    """Beneath arms of which one seed tells nothing."""
    from dashboards.inference import ONE_SEED  # with scipy, which takes a second

    if document["images"]:
        said = (one["text"] for one in document["conclusions"] if one["kind"] == "images")
        yield from map(plain, said)
    elif compared and any(c["why"] == ONE_SEED for c in compared["arms"].values()):
        yield "with one seed: --images tells how much a difference depends on the images"


def _how_compared(document: Document, compared: Mapping[str, Any]) -> Iterable[str]:
    label = next(a["label"] for a in document["arms"] if a["key"] == document["baseline"])
    variances = {"equal": "one variance for all arms", "unequal": "each arm's own variance"}
    yield (
        f"differences are to the baseline ({plain(label)}), paired by seed; intervals hold at once "
        f"for all arms (Dunnett), with {variances[compared['variances']]}"
    )
    rates = (
        f"any false claim of better or worse in at most {_percent(compared['level'])} of such "
        "tables"
    )
    if compared["min_effect"] is not None:
        rates += (
            f"; a difference of {written(compared['min_effect'])} or more is called not separable "
            f"in at most {_percent(compared['miss'])} of cases"
        )
    yield rates
    if document["looks"]:
        looks = ", ".join(map(str, document["looks"]))
        yield (
            "arms get more seeds while their verdict is open, which is looked at with "
            f"{looks} seeds: intervals and rates hold for all looks together"
        )


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _left_out(document: Document) -> Iterable[str]:
    """One line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for arm in document["excluded"]:
        by_reason.setdefault(plain(arm.get("why", "")), []).append(plain(arm.get("label", "")))
    for why, labels in by_reason.items():
        yield f"left out: {', '.join(labels)}" + (f": {why}" if why else "")


def _aliased(screen: Mapping[str, Any]) -> Iterable[str]:
    """What a fractional design cannot tell apart."""
    effects = [
        " = ".join([plain(e["effect"]), *map(plain, e["with"])])
        for e in screen.get("aliases", ())
        if e["with"]
    ]
    if not effects:
        return
    more = f"; and {len(effects) - ALIASES} more" if len(effects) > ALIASES else ""
    yield (
        f"aliased: block {plain(screen['block'])} (resolution {plain(screen['resolution'])}) "
        f"cannot tell apart {'; '.join(effects[:ALIASES])}{more}"
    )


def _named(what: str, values: Sequence[str]) -> str:
    if not values:
        return f"{what} not known"
    many = "s" if len(values) > 1 and what != "data" else ""
    return f"{what}{many} {', '.join(map(_short, values))}"


def _short(text: str) -> str:
    """A digest in as many letters as tell it apart."""
    return text[:12] if re.fullmatch(r"[0-9a-f]{16,}", text) else plain(text)


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 3, 0.6)
    hint = f"did you mean {' or '.join(map(plain, near))}?" if near else ""
    choices = f"there are {', '.join(map(plain, known))}"
    return f"no numbers of a metric {plain(name)!r}; {hint or choices}"
