"""The plan of a sweep as its run in MLflow has it: the artifact `plan.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dashboards.study import ABSENT, Decided, ReferenceRow, Target

if TYPE_CHECKING:
    from dashboards.inference import Variances

Levels = tuple[str, ...]
"""The levels of an arm, of all axes in order."""


@dataclass(frozen=True)
class Planned:
    """A cell that is to be trained. `id` is empty while its tuned values are not known."""

    id: str
    label: str
    seed: int
    levels: Levels
    gpus: float = 0.0


@dataclass(frozen=True)
class Plan:
    """`cells` in the order of the sweep file; the other parts of an arm by its levels. `further`:
    the cells that may come while a verdict is open."""

    axes: Mapping[str, tuple[str, ...]]
    cells: tuple[Planned, ...]
    baseline: Levels | None = None
    target: Target = Target()
    question: str = ""
    tunes: bool = False  # its cells choose values for those of the table, and come first
    further: tuple[Planned, ...] = ()
    differences: Mapping[Levels, Mapping[str, str]] = field(default_factory=dict)
    references: Mapping[Levels, ReferenceRow] = field(default_factory=dict)
    protocols: Mapping[Levels, Mapping[str, object]] = field(default_factory=dict)
    reference: str = ""
    excluded: tuple[Mapping[str, object], ...] = ()
    aliases: tuple[object, ...] = ()
    cautions: tuple[str, ...] = ()
    looks: tuple[int, ...] = ()  # see `dashboards.study.Study`
    decisions: tuple[Decided, ...] = ()  # arms by their labels here


def read_plan(text: str | None) -> Plan | None:
    """None for no plan, and for a text that is none: anyone can replace an artifact."""
    try:
        return _plan(json.loads(text)) if text else None
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def read_decisions(text: str | None) -> tuple[Decided, ...]:
    """The last of each arm (by its label) of the artifact `decisions.json`; empty for none, and for
    a text that is none."""
    try:
        told = json.loads(text)["decisions"] if text else []
        last = {str(entry["arm"]): entry for entry in told}
        return tuple(
            Decided(
                label,
                int(entry["seeds"]),
                str(entry["verdict"]),
                str(entry["action"]).startswith("ends"),
                *(_number(entry.get(name)) for name in ("difference", "low", "high")),
            )
            for label, entry in last.items()
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return ()


def text_of(level: object) -> str:
    """A level as tables show it: as it stands in YAML."""
    return str(level).lower() if isinstance(level, bool) else str(level)


def ordered(names: Iterable[str], arms: Iterable[Levels]) -> dict[str, tuple[str, ...]]:
    """The levels of each axis that occur, in the order of the arms."""
    columns = zip(*arms, strict=True)
    return {n: tuple(dict.fromkeys(c)) for n, c in zip(names, columns, strict=True)}


def arm_label(label: str, seed: int) -> str:
    """The label of a cell without its seed."""
    return label.removesuffix(f" seed={seed}")


# ---------------------------------------------------------------- inside


def _plan(data: Any) -> Plan:
    from dashboards.reference.rows import read_row  # with scipy, which takes a second

    told = {name: [text_of(v) for v in levels] for name, levels in data.get("axes", {}).items()}
    names = list(told) or list(dict.fromkeys(a for c in data["cells"] for a in c["axes"]))
    cells = tuple(_cell(cell, names) for cell in data["cells"])
    found = ordered(names, [c.levels for c in cells])
    axes = {n: tuple(dict.fromkeys((*told.get(n, ()), *found.get(n, ())))) for n in names}
    by_arm = dict(zip((c.levels for c in cells), data["cells"], strict=True))
    arms = {arm_label(c.label, c.seed): c.levels for c in cells}
    given = data.get("baseline")
    common = data.get("reference_protocol") or {}
    return Plan(
        axes,
        cells,
        _levels(given, names) if isinstance(given, dict) and given else None,
        _target(data.get("metric") or {}),
        str(data.get("question") or ""),
        bool(data.get("tunes", False)),
        tuple(_further((data.get("further") or {}).get("cells", []), arms)),
        {arm: _texts(cell.get("differences")) for arm, cell in by_arm.items()},
        {
            arm: read_row(str(cell.get("ref") or cell["reference"].get("label")), row, common)
            for arm, cell in by_arm.items()
            if isinstance(row := cell.get("reference"), dict)
        },
        {arm: dict(cell.get("protocol") or {}) for arm, cell in by_arm.items()},
        str(data.get("reference") or ""),
        tuple(dict(e) for e in data.get("excluded") or []),
        tuple(data.get("aliases") or []),
        tuple(map(str, data.get("cautions") or [])),
        _looks(data.get("further") or {}, {c.seed for c in cells}),
    )


def _cell(data: Mapping[str, Any], names: list[str]) -> Planned:
    resources = data.get("resources") or {}
    gpus = float(resources.get("workers") or 0) * float(resources.get("gpus_per_worker") or 0)
    levels = _levels(data["axes"], names)
    return Planned(str(data["id"] or ""), str(data["label"]), int(data["seed"]), levels, gpus)


def _further(cells: Iterable[Mapping[str, Any]], arms: Mapping[str, Levels]) -> Iterable[Planned]:
    for cell in cells:
        label, seed = str(cell["label"]), int(cell["seed"])
        if cell["id"] and (levels := arms.get(arm_label(label, seed))):
            yield Planned(str(cell["id"]), label, seed, levels)


def _looks(further: Mapping[str, Any], seeds: set[int]) -> tuple[int, ...]:
    """A plan that was written at the end holds further seeds among its cells."""
    more, by = further.get("seeds") or [], int(further.get("by") or 1)
    first = len(seeds - set(more))
    return (*range(first, first + len(more), by), first + len(more)) if more else ()


def _levels(axes: Mapping[str, Any], names: Iterable[str]) -> Levels:
    return tuple(text_of(axes.get(name, ABSENT)) for name in names)


def _target(data: Mapping[str, Any]) -> Target:
    goal, least = data.get("goal"), data.get("min_effect")
    name = str(data.get("name") or Target.name)
    goal = goal if goal in ("max", "min") else Target.goal
    said = data.get("variances")
    variances: Variances = (
        "equal" if said == "equal" else "unequal" if said == "unequal" else "auto"
    )
    return Target(name, goal, float(least) if least else None, variances)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _texts(data: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in data.items()} if isinstance(data, dict) else {}
