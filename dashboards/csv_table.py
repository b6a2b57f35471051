"""The results as CSV: a line for each cell, or one for each arm. Nothing is rounded; a text is on
one line, so that tools that go by lines can read it too."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any

from dashboards.plain import plain
from dashboards.remarks import Document

CELL = (
    *("sweep", "arm", "label", "seed", "outcome", "step", "reason", "attempts", "baseline"),
    *("id", "trained_by", "run_id", "experiment_id", "began", "ended", "gpus"),
)
ARM = ("sweep", "arm", "label", "baseline", "planned", "settled", "outcomes")
VALUES = ("n", "mean", "sd")
COMPARED = ("difference", "low", "high", "p", "pairs", "verdict", "more", "words")

_FORMULA = re.compile(r"[=+\-@]")
_HARMLESS = re.compile(r"-|[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def cells_csv(document: Document) -> str:
    """A line for each planned cell: its arm's levels as `axis.NAME`, how it ended, and every metric
    as MLflow calls it. What did not converge has a line like all others."""
    taken = {*CELL, *_axes(document)}
    names = {  # in the order of the table, then all others
        metric: f"metric.{metric}" if metric in taken else metric
        for metric in dict.fromkeys(
            [
                *(m["name"] for m in document["metrics"]),
                *sorted({name for cell in document["cells"] for name in cell["metrics"]}),
            ]
        )
    }
    arms = {arm["key"]: arm for arm in document["arms"]}
    rows = []
    for cell in document["cells"]:
        about = {
            **cell,
            "sweep": document["sweep"]["name"],
            "trained_by": cell["sweep"],
            "baseline": cell["arm"] == document["baseline"],
        }
        levels = _levels(document, arms[cell["arm"]])
        numbers = {head: cell["metrics"].get(name) for name, head in names.items()}
        rows.append({**{name: about[name] for name in CELL}, **levels, **numbers})
    return _written([*CELL, *_axes(document), *names.values()], rows)


def arms_csv(document: Document) -> str:
    """A line for each arm: its levels, and for each metric `METRIC.n`, `.mean`, `.sd` and, with a
    baseline, the comparison (`METRIC.difference`, `.low`, `.high`, `.verdict`, ...). `outcomes` is
    `2 converged, 1 diverged`."""
    metrics = [metric["name"] for metric in document["metrics"]]
    heads = [*ARM, *_axes(document)]
    heads += [f"{m}.{part}" for m in metrics for part in (*VALUES, *_parts(document, m))]
    rows = []
    for arm in document["arms"]:
        row = {
            "sweep": document["sweep"]["name"],
            "arm": arm["key"],
            "label": arm["label"],
            "baseline": arm["key"] == document["baseline"],
            "planned": arm["planned"],
            "settled": arm["settled"],
            "outcomes": ", ".join(f"{n} {name}" for name, n in arm["outcomes"].items()),
            **_levels(document, arm),
        }
        for metric in metrics:
            row |= {f"{metric}.{part}": arm["values"][metric][part] for part in VALUES}
            for part in _parts(document, metric):
                found = document["comparisons"][metric]["arms"][arm["key"]]
                row[f"{metric}.{part}"] = found[part]
        rows.append(row)
    return _written(heads, rows)


def defused(text: str) -> str:
    """A text that a spreadsheet would run as a formula, after an apostrophe, which makes it a
    text there. Numbers, and the `-` of an axis that an arm does not have, stay as they are."""
    return f"'{text}" if _FORMULA.match(text) and not _HARMLESS.fullmatch(text) else text


def _axes(document: Document) -> list[str]:
    return [f"axis.{axis['name']}" for axis in document["axes"]]


def _levels(document: Document, arm: Mapping[str, Any]) -> dict[str, Any]:
    names = (axis["name"] for axis in document["axes"])
    return {f"axis.{name}": arm["levels"].get(name) for name in names}


def _parts(document: Document, metric: str) -> tuple[str, ...]:
    return COMPARED if metric in document["comparisons"] else ()


def _written(heads: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    names = list(heads)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(_cell, names))
    for row in rows:
        writer.writerow([_cell(row[name]) for name in names])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return defused(plain(value)) if isinstance(value, str) else value
