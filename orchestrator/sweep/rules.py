"""The keys `exclude` and `assert` of a sweep file: arms that are left out, and what must hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detcore.config import nearest
from orchestrator.sweep.axes import Label, text_of
from orchestrator.sweep.conditions import hint
from orchestrator.sweep.derive import Line, behind, needed, reads_seed
from orchestrator.sweep.document import Document, KeyPath, SweepError
from orchestrator.sweep.expr import Expr, ExprError, Value, evaluate, parse


@dataclass(frozen=True)
class Rule:
    """Arms for which `expr` is true are left out, because of `why`."""

    expr: Expr
    why: str
    at: KeyPath
    lines: tuple[Line, ...]  # what has to be computed first


@dataclass(frozen=True)
class Claim:
    """What has to hold in every cell."""

    expr: Expr
    at: KeyPath


@dataclass(frozen=True)
class Excluded:
    """An arm of the design that is left out."""

    label: str
    axes: Mapping[str, Label]
    blocks: tuple[str, ...]  # those that ask for it
    why: str


def read_rules(
    document: Document, lines: Sequence[Line], known: set[str], nuisance: set[str]
) -> tuple[Rule, ...]:
    """`exclude`, a list of `{if, why}`; raises SweepError. What follows from the seed or from the
    parameters `nuisance` of `tune` is `known`, but cannot decide which arms there are."""
    not_of_arms = {"seed", *nuisance}
    offered = {name for name in known if not not_of_arms & behind(lines, {name})}
    rules = []
    for i, body in enumerate(_list(document, "exclude", "rules {if: condition, why: text}")):
        at = ("exclude", str(i))
        if not isinstance(body, dict):
            raise document.error(at, f"must be {{if: condition, why: text}}, is {body!r}")
        for key in body:
            if key not in ("if", "why"):
                problem = f"unknown key {key!r}; {nearest(str(key), ['if', 'why'])}"
                raise document.error((*at, str(key)), problem)
        for key in ("if", "why"):
            if key not in body:
                raise document.error(at, f"`{key}` is missing")
        why = body["why"]
        if not isinstance(why, str) or not why.strip():
            raise document.error((*at, "why"), f"must be the reason, for the report, is {why!r}")
        expr = _parsed(document, (*at, "if"), body["if"], known, offered)
        if reads_seed(lines, expr.names):
            raise document.error(
                (*at, "if"),
                f"{expr.text!r} depends on the seed, and an arm is left out with all its seeds; "
                "a block of the design may have `seeds` of its own",
            )
        rules.append(Rule(expr, " ".join(why.split()), at, needed(lines, expr.names)))
    return tuple(rules)


def read_claims(document: Document, known: set[str]) -> tuple[Claim, ...]:
    """`assert`, a list of conditions; raises SweepError."""
    return tuple(
        Claim(_parsed(document, at, text, known), at)
        for i, text in enumerate(_list(document, "assert", "conditions"))
        for at in [("assert", str(i))]
    )


def check_claims(
    document: Document, claims: Iterable[Claim], scope: Mapping[str, Value], arm_label: str
) -> None:
    """Raise SweepError, with the values that it read, for a condition that does not hold."""
    for claim in claims:
        if not truth(document, claim.at, claim.expr, scope, arm_label):
            read = ", ".join(f"{name} = {_shown(scope[name])}" for name in sorted(claim.expr.names))
            problem = f"{claim.expr.text!r} does not hold" + (f": {read}" if read else "")
            raise document.error(claim.at, f"{problem} (arm {arm_label})")


def truth(
    document: Document, at: KeyPath, expr: Expr, scope: Mapping[str, Value], arm_label: str
) -> bool:
    """The value of a condition; raises SweepError when it has none."""
    value = value_of(document, at, expr, scope, arm_label)
    if not isinstance(value, bool):
        problem = f"must be true or false for every arm, is {value!r}"
        raise document.error(at, f"{problem} (arm {arm_label})")
    return value


def value_of(
    document: Document, at: KeyPath, expr: Expr, scope: Mapping[str, Value], arm_label: str
) -> Value:
    """The value of an expression of the file; raises SweepError, naming the arm."""
    try:
        return evaluate(expr, scope)
    except ExprError as error:
        raise failed(document, at, error, expr, scope, arm_label) from None


def failed(
    document: Document,
    at: KeyPath,
    error: ExprError,
    expr: Expr,
    scope: Mapping[str, Value],
    arm_label: str,
) -> SweepError:
    return document.error(at, f"{error}{hint(expr.names, scope)} (arm {arm_label})")


def _list(document: Document, key: str, what: str) -> list[Any]:
    given = document.data.get(key, [])
    if not isinstance(given, list):
        raise document.error((key,), f"must be a list of {what}, is {given!r}")
    return given


def _parsed(
    document: Document,
    at: KeyPath,
    text: Any,
    known: set[str],
    offered: set[str] | None = None,
) -> Expr:
    if not isinstance(text, str):
        raise document.error(at, f"must be a condition such as norm == 'gn', is {text!r}")
    try:
        return parse(text, known, offered)
    except ExprError as error:
        raise document.error(at, str(error)) from None


def _shown(value: Value) -> str:
    return repr(value) if isinstance(value, str) else text_of(value)  # type: ignore[arg-type]
