"""Conditional axes: the key `when` of an axis, and which axes an arm has."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from detcore.config import nearest
from orchestrator.sweep.axes import ABSENT, UNSET, Axis, Label, Level
from orchestrator.sweep.document import Document
from orchestrator.sweep.expr import ExprError, Value, evaluate, parse

Choice = dict[str, Level | None]
"""Axis -> level; None: no level is named, and the axis takes what the base config has."""


def read_conditions(document: Document, axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """`axes` with their `when`; raises SweepError for an unknown name, a circle, and a condition
    that no levels meet."""
    known = {name for axis in axes for name in (axis.name, *axis.levels[0].names)}
    out = []
    for axis in axes:
        text = document.data["axes"][axis.name].get("when")
        if text is None:
            out.append(axis)
            continue
        at = ("axes", axis.name, "when")
        if not isinstance(text, str):
            raise document.error(at, f"must be a condition such as norm == 'gn', is {text!r}")
        for level in axis.levels:
            if level.label in (ABSENT, UNSET):
                what = "an arm without this axis" if level.label == ABSENT else "the base's value"
                raise document.error(level.at, f"the label {level.label!r} stands for {what}")
        try:
            out.append(replace(axis, when=parse(text, known)))
        except ExprError as error:
            raise document.error(at, str(error)) from None
    for axis in conditional_axes(document, out):
        _check_met(document, out, axis)
    return tuple(out)


def _check_met(document: Document, axes: Sequence[Axis], axis: Axis) -> None:
    """An axis whose condition no levels meet would be in no arm, whatever the design."""
    assert axis.when is not None
    names = axis.when.names
    read = [other for other in axes if {other.name, *other.levels[0].names} & names]
    choices = [[*other.levels, *([other.absent] if other.when else [])] for other in read]
    for levels in itertools.product(*choices):
        pairs = zip(read, levels, strict=True)
        scope: dict[str, Value] = {k: v for pair in pairs for k, v in scope_of(*pair).items()}
        try:
            if evaluate(axis.when, scope) is not False:
                return
        except ExprError:  # of a level that may be in no arm; told when one has it
            return
    have = "; ".join(f"{other.name}: {', '.join(other.labels())}" for other in read)
    raise document.error(
        ("axes", axis.name, "when"),
        f"{axis.when.text!r} holds for no levels, so that no arm has this axis; choices: {have}",
    )


def conditional_axes(document: Document, axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """The axes that have a `when`, each after those that its `when` reads."""
    axes = list(axes)
    owner = {name: axis for axis in axes for name in (axis.name, *axis.levels[0].names)}
    done: dict[str, Axis] = {}

    def visit(axis: Axis, above: tuple[str, ...]) -> None:
        if axis.when is None or axis.name in done:
            return
        if axis.name in above:
            circle = " -> ".join((*above[above.index(axis.name) :], axis.name))
            raise document.error(
                ("axes", axis.name, "when"), f"depends on the axis itself: {circle}"
            )
        for name in sorted(axis.when.names):
            visit(owner[name], (*above, axis.name))
        done[axis.name] = axis

    for axis in axes:
        visit(axis, ())
    return tuple(done.values())


def read_baseline(
    document: Document, axes: Sequence[Axis], conditional: Sequence[Axis]
) -> tuple[Choice, Choice]:
    """The levels that `baseline` names, which blocks start from, and the baseline arm itself, in
    which conditional axes may be absent. Raises SweepError."""
    named = _named(document, axes)
    arm = resolved(document, axes, conditional, named)
    for axis in axes:
        if arm[axis.name] is None:
            choices = ", ".join(axis.labels())
            raise document.error(("baseline",), f"axis {axis.name} is missing; choices: {choices}")
    return named, arm


def _named(document: Document, axes: Sequence[Axis]) -> Choice:
    if "baseline" not in document.data:
        return {axis.name: axis.levels[0] for axis in axes}
    given = document.data["baseline"]
    if not isinstance(given, dict):
        raise document.error(("baseline",), f"must map every axis to a level, is {given!r}")
    names = [axis.name for axis in axes]
    for key in given:
        if key not in names:
            raise document.error(
                ("baseline", str(key)), f"unknown axis {key!r}; {nearest(str(key), names)}"
            )
    out: Choice = {}
    for axis in axes:
        if axis.name not in given:
            out[axis.name] = None
            continue
        out[axis.name] = axis.level(given[axis.name])
        if out[axis.name] is None:
            choices = nearest(str(given[axis.name]), axis.labels())
            raise document.error(
                ("baseline", axis.name), f"unknown level {given[axis.name]!r}; {choices}"
            )
    return out


def resolved(
    document: Document, axes: Sequence[Axis], conditional: Sequence[Axis], named: Choice
) -> Choice:
    """`named`, a level for every axis, with each axis absent where its `when` does not hold."""
    if not conditional:
        return named
    chosen = dict(named)
    for axis in conditional:
        assert axis.when is not None
        at = ("axes", axis.name, "when")
        scope: dict[str, Value] = {}
        for other in axes:
            level = chosen[other.name]
            if other.name != axis.name:
                scope |= scope_of(other, level or other.unset)
        try:
            holds = evaluate(axis.when, scope)
        except ExprError as error:
            raise document.error(at, f"{error}{hint(axis.when.names, scope)}") from None
        if not isinstance(holds, bool):
            raise document.error(at, f"must be true or false for every arm, is {holds!r}")
        if not holds:
            chosen[axis.name] = axis.absent
    return chosen


def scope_of(axis: Axis, level: Level) -> Mapping[str, Label]:
    """What expressions read of an axis at this level."""
    return {axis.name: level.label, **level.names}


def hint(names: Iterable[str], scope: Mapping[str, Value]) -> str:
    """For the end of an error: which of the `names` that an expression reads are no levels."""
    names = sorted(names)
    for label, text in (
        (ABSENT, "is absent from this arm (its `when` does not hold) and reads as '-'"),
        (UNSET, "has no level in this arm; name one in `baseline`"),
    ):
        found = [name for name in names if scope.get(name) == label]
        if found:
            return f"; {' and '.join(found)} {text}"
    return ""
