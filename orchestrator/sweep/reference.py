"""The key `reference` of a sweep file: rows of another report that arms of this sweep repeat.

A reference file holds the numbers; a sweep says which arm repeats which row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detcore.config import YamlError, nearest, read_yaml
from detcore.result import METRICS
from orchestrator.sweep.axes import Axis, Label, text_of
from orchestrator.sweep.conditions import Choice
from orchestrator.sweep.document import Document, KeyPath


@dataclass(frozen=True)
class Row:
    """One row of another report. `metrics` is empty where it did not converge."""

    id: str
    label: str
    metrics: Mapping[str, float]
    converged: bool = True
    rest: Mapping[str, Any] = field(default_factory=dict)  # section, train_hours, remark ...

    def score(self, metric: str) -> str:
        """What the row says of `metric`, as text."""
        if not self.converged:
            return "not converged"
        return f"{self.metrics[metric]:.3f}" if metric in self.metrics else "no result"

    def to_json(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "converged": self.converged,
            "metrics": dict(self.metrics),
            **self.rest,
        }


@dataclass(frozen=True)
class Reference:
    """`rows` by the levels of the arm that repeats them, all axes in order, as text."""

    source: str = ""
    rows: Mapping[tuple[str, ...], Row] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)  # of all rows: protocol.py

    def scores(self, metric: str) -> dict[tuple[str, ...], str]:
        """For each arm what its row says of `metric`, with the row's id and label."""
        out = {}
        for arm, row in self.rows.items():
            name = row.label if row.id in arm else f"{row.id} {row.label}"
            out[arm] = f"{row.score(metric)}  {name if len(name) <= 48 else name[:47] + '…'}"
        return out

    def of(self, levels: Sequence[Label]) -> Row | None:
        return self.rows.get(tuple(text_of(label) for label in levels))


def read_reference(
    document: Document, file: Path, axes: Sequence[Axis], resolve: Callable[[Choice], Choice]
) -> Reference:
    """`reference: {file, axis}`: the levels of one axis are named like rows. `reference: {file,
    arms}`: for a row the levels of its arm, axes left out at the baseline. `resolve` makes the
    levels of an arm from those that differ from the baseline. Raises SweepError."""
    if "reference" not in document.data:
        return Reference()
    given = document.data["reference"]
    if not isinstance(given, dict):
        raise document.error(
            ("reference",), f"must be a mapping of file, axis and arms, is {given!r}"
        )
    for key in given:
        if key not in ("file", "axis", "arms"):
            hint = nearest(str(key), ["file", "axis", "arms"])
            raise document.error(("reference", str(key)), f"unknown key {key!r}; {hint}")
    source, known, protocol = _read_rows(document, file, given.get("file"))
    if not {"axis", "arms"} & set(given):
        raise document.error(
            ("reference",), "names no arms: give `axis`, whose levels are rows, or `arms`"
        )
    rows: dict[tuple[str, ...], Row] = {}
    for id_, levels, at in _arms(document, given, axes, resolve, known):
        if id_ not in known:
            raise document.error(at, f"the reference has no row {id_!r}; {nearest(id_, [*known])}")
        if levels in rows:
            raise document.error(at, f"rows {rows[levels].id} and {id_} name the same arm")
        rows[levels] = known[id_]
    return Reference(source, rows, protocol)


def _arms(
    document: Document,
    given: Mapping[str, Any],
    axes: Sequence[Axis],
    resolve: Callable[[Choice], Choice],
    known: Mapping[str, Row],
) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """(row id, levels of its arm as text, key of the sweep) for every row that is named."""
    by_name = {axis.name: axis for axis in axes}

    def levels(changed: Choice, at: KeyPath) -> tuple[str, ...]:
        chosen = resolve(changed)
        for name, level in chosen.items():
            if level is None:
                raise document.error(at, f"axis {name} needs a level here, or in `baseline`")
        return tuple(text_of(level.label) for level in chosen.values() if level)

    out = []
    if "axis" in given:
        name, at = given["axis"], ("reference", "axis")
        if not isinstance(name, str) or name not in by_name:
            raise document.error(at, f"unknown axis {name!r}; {nearest(str(name), [*by_name])}")
        for level in by_name[name].levels:
            if text_of(level.label) in known:
                out.append((text_of(level.label), levels({name: level}, at), level.at))
        if not out:
            have = ", ".join(by_name[name].labels())
            raise document.error(
                at, f"no level of axis {name} ({have}) is a row; rows: {', '.join(known)}"
            )
    arms = given.get("arms", {})
    if not isinstance(arms, dict):
        raise document.error(("reference", "arms"), f"must map rows to arms, is {arms!r}")
    for id_, arm in arms.items():
        at2 = ("reference", "arms", str(id_))
        if not isinstance(arm, dict):
            raise document.error(at2, f"must map axes to levels, is {arm!r}")
        changed: Choice = {}
        for name, label in arm.items():
            if name not in by_name:
                raise document.error(
                    (*at2, str(name)), f"unknown axis {name!r}; {nearest(str(name), [*by_name])}"
                )
            found = by_name[name].level(label)
            if found is None:
                hint = nearest(str(label), by_name[name].labels())
                raise document.error((*at2, name), f"unknown level {label!r}; {hint}")
            changed[name] = found
        out.append((str(id_), levels(changed, at2), at2))
    return out


def _read_rows(
    document: Document, file: Path, name: Any
) -> tuple[str, dict[str, Row], dict[str, Any]]:
    at = ("reference", "file")
    if not isinstance(name, str):
        raise document.error(at, f"must be the path of a reference file, is {name!r}")
    path = file.parent / name
    if not path.is_file():
        raise document.error(at, f"no such file: {path}")
    try:
        data = read_yaml(path).data
    except YamlError as error:
        raise document.error(at, str(error)) from None
    if not isinstance(data, dict) or not isinstance(data.get("rows"), dict):
        raise document.error(at, f"{path} has no `rows`")
    rows = {}
    for id_, row in data["rows"].items():
        if not isinstance(row, dict):
            raise document.error(at, f"{path}: row {id_} must be a mapping")
        try:
            rows[str(id_)] = _row(str(id_), row)
        except ValueError as error:
            raise document.error(at, f"{path}: {error}") from None
    protocol = data.get("protocol", {})
    if not isinstance(protocol, dict):
        raise document.error(at, f"{path}: protocol must be a mapping, is {protocol!r}")
    try:
        json.dumps(protocol)
    except TypeError:
        raise document.error(
            at, f"{path}: protocol may hold text, numbers, lists and mappings only"
        ) from None
    return str(data.get("source", "")), rows, protocol


def _row(id_: str, given: Mapping[str, Any]) -> Row:
    """Raises ValueError."""
    rest = dict(given)
    metrics, converged = rest.pop("metrics", {}), rest.pop("converged", True)
    if not isinstance(metrics, dict) or not metrics.keys() <= set(METRICS):
        raise ValueError(f"the metrics of row {id_} must be of {', '.join(METRICS)}")
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} of row {id_} must be a number, is {value!r}")
    if not isinstance(converged, bool):
        raise ValueError(f"converged of row {id_} must be true or false, is {converged!r}")
    try:
        json.dumps(rest)
    except TypeError:
        raise ValueError(f"row {id_} may hold text, numbers, lists and mappings only") from None
    return Row(id_, str(rest.pop("label", id_)), metrics, converged, rest)
