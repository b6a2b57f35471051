"""The expressions of sweep files: numbers, text, names, arithmetic, comparisons, conditions.

An expression is parsed by Python's `ast`, checked against a list of allowed nodes, and walked here.
Nothing is ever passed to `eval`; length, depth, exponents and the size of numbers are bounded, so
that no expression can hang or fill the memory.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from detcore.config import nearest

Value = bool | int | float | str | tuple["Value", ...]

MAX_LENGTH = 500  # characters
MAX_NUMBER = 10**18
MAX_EXPONENT = 64
MAX_DEPTH = 40  # levels of nesting


class ExprError(ValueError):
    """What is wrong with an expression; says nothing about where the expression stands."""


@dataclass(frozen=True)
class Expr:
    """A checked expression. `names` are the variables it reads."""

    text: str
    names: frozenset[str]
    node: ast.expr


def parse(
    text: str, known: Iterable[str] | None = None, offered: Iterable[str] | None = None
) -> Expr:
    """Check `text`; with `known`, every name in it must be one of those, of which an error names
    the `offered` ones (default: all). Raises ExprError."""
    text = text.strip()
    if not text:
        raise ExprError("is empty, an expression is needed")
    if len(text) > MAX_LENGTH:
        raise ExprError(f"is too long: {len(text)} characters, at most {MAX_LENGTH} are allowed")
    try:
        with warnings.catch_warnings():  # Python warns about text such as `1if x`; it is no news
            warnings.simplefilter("ignore")
            node = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ExprError(_syntax(text, error)) from None
    except (RecursionError, MemoryError, ValueError):
        raise ExprError("cannot be read: nested too deeply, or not text") from None
    names: set[str] = set()
    _check(node, names)
    if known is not None:
        known = set(known)
        choices = sorted(known if offered is None else offered)
        for name in sorted(names - known):
            raise ExprError(
                f"unknown name {name!r} in {text!r} (text needs quotes: '{name}'); "
                f"{nearest(name, choices)}"
            )
    return Expr(text, frozenset(names), node)


def evaluate(expr: Expr, scope: Mapping[str, Value]) -> Value:
    """The value of `expr` with the variables of `scope`; raises ExprError (division by zero)."""
    missing = expr.names - set(scope)
    if missing:
        raise ExprError(f"unknown name {min(missing)!r}; {nearest(min(missing), sorted(scope))}")
    try:
        return _value(expr.node, scope)
    except ExprError as error:
        raise ExprError(f"{error} in {expr.text!r}") from None
    except ZeroDivisionError:
        raise ExprError(f"division by zero in {expr.text!r}") from None
    except OverflowError:
        raise ExprError(f"the number is too large in {expr.text!r}") from None


def _syntax(text: str, error: SyntaxError) -> str:
    if text.startswith("="):
        return f"is an expression already, leave out the leading '=': {text!r}"
    if text.count("(") > text.count(")"):
        return f"a ) is missing in {text!r} (inside {{ }} YAML ends a value at a comma: use quotes)"
    if re.search(r"(?<![=<>!])=(?!=)", text):
        return f"is not an expression: equality is written ==, in {text!r}"
    return f"is not an expression, at column {error.offset or 1} of {text!r}"


# ---------------------------------------------------------------- what may stand in an expression


def _at(node: ast.AST) -> str:
    return f"column {getattr(node, 'col_offset', 0) + 1}"


def _check(node: ast.expr, names: set[str], depth: int = 0) -> None:
    """Raise ExprError for anything outside the language; collects the variables into `names`."""
    if depth > MAX_DEPTH:
        raise ExprError(f"is nested too deeply, at {_at(node)}")
    match node:
        case ast.Constant(value=value):
            if not isinstance(value, bool | int | float | str):
                raise ExprError(f"{value!r} is not allowed, at {_at(node)}")
            _bounded(value)
        case ast.Name(id=name):
            if name in FUNCTIONS:
                raise ExprError(f"{name} is a function: write {name}(...), at {_at(node)}")
            names.add(name)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            _check(left, names, depth + 1)
            _check(right, names, depth + 1)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not(), operand=operand):
            _check(operand, names, depth + 1)
        case ast.BoolOp(values=values) | ast.Tuple(elts=values) | ast.List(elts=values):
            for part in values:
                _check(part, names, depth + 1)
        case ast.Compare(left=left, ops=ops, comparators=rest):
            for compare, right in zip(ops, rest, strict=True):
                if type(compare) not in _COMPARE and not isinstance(compare, ast.In | ast.NotIn):
                    raise ExprError(f"'is' is not allowed, write == or !=, at {_at(node)}")
                if isinstance(compare, ast.In | ast.NotIn) and not isinstance(
                    right, ast.Tuple | ast.List
                ):
                    raise ExprError(f"'in' needs a list such as [1, 2], at {_at(right)}")
            for part in (left, *rest):
                _check(part, names, depth + 1)
        case ast.IfExp(test=test, body=body, orelse=orelse):
            for part in (test, body, orelse):
                _check(part, names, depth + 1)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name not in FUNCTIONS:
                raise ExprError(
                    f"unknown function {name!r}, at {_at(node)}; {nearest(name, sorted(FUNCTIONS))}"
                )
            for part in args:
                _check(part, names, depth + 1)
        case _:
            what = type(node).__name__
            raise ExprError(
                f"only numbers, text, names, arithmetic, comparisons, and/or/not, in, if/else "
                f"and {', '.join(sorted(FUNCTIONS))} are allowed, found {what} at {_at(node)}"
            )


# ---------------------------------------------------------------- values


def _value(node: ast.expr, scope: Mapping[str, Value]) -> Value:
    match node:
        case ast.Constant(value=value):
            assert isinstance(value, bool | int | float | str)
            return value
        case ast.Name(id=name):
            return _bounded(scope[name])
        case ast.BinOp(left=left, op=op, right=right):
            symbol, function = _ARITHMETIC[type(op)]
            a, b = _number(left, scope, symbol), _number(right, scope, symbol)
            if symbol == "**" and (abs(b) > MAX_EXPONENT or (a < 0 and b != int(b))):
                raise ExprError(f"{a} ** {b} is not allowed (exponents up to {MAX_EXPONENT})")
            return _bounded(function(a, b))
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _truth(operand, scope, "not")
        case ast.UnaryOp(op=op, operand=operand):
            number = _number(operand, scope, "-")
            return -number if isinstance(op, ast.USub) else number
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_truth(v, scope, "and") for v in values)
        case ast.BoolOp(values=values):
            return any(_truth(v, scope, "or") for v in values)
        case ast.Compare(left=left, ops=ops, comparators=rest):
            here = _value(left, scope)
            for compare, right_node in zip(ops, rest, strict=True):
                there = _value(right_node, scope)
                if not _compare(compare, here, there):
                    return False
                here = there
            return True
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _value(body if _truth(test, scope, "if") else orelse, scope)
        case ast.Tuple(elts=elts) | ast.List(elts=elts):
            return tuple(_value(v, scope) for v in elts)
        case ast.Call(func=ast.Name(id=name), args=args):
            return _bounded(FUNCTIONS[name](*(_number(a, scope, name) for a in args)))
    raise AssertionError(f"{type(node).__name__} passed the check")


def _number(node: ast.expr, scope: Mapping[str, Value], user: str) -> int | float:
    value = _value(node, scope)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ExprError(f"{user} needs numbers, got {_shown(value)}")
    return value


def _truth(node: ast.expr, scope: Mapping[str, Value], user: str) -> bool:
    """`norm == 'gn' or 'bn'` is a mistake, so only true and false count as conditions."""
    value = _value(node, scope)
    if not isinstance(value, bool):
        raise ExprError(f"{user!r} needs a condition, got {_shown(value)}")
    return value


def _compare(compare: ast.cmpop, left: Value, right: Value) -> bool:
    if isinstance(compare, ast.In | ast.NotIn):
        assert isinstance(right, tuple)
        return any(_equal(left, v) for v in right) == isinstance(compare, ast.In)
    if isinstance(compare, ast.Eq | ast.NotEq):
        return _equal(left, right) == isinstance(compare, ast.Eq)
    symbol, function = _COMPARE[type(compare)]
    if _sort(left) != _sort(right) or _sort(left) not in ("number", "text"):
        raise ExprError(f"{symbol} cannot compare {_shown(left)} with {_shown(right)}")
    return bool(function(left, right))


def _equal(left: Value, right: Value) -> bool:
    return _sort(left) == _sort(right) and left == right


def _sort(value: Value) -> str:
    if isinstance(value, bool):
        return "truth value"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "list"


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else f"the {_sort(value)} {value!r}"


def _bounded(value: Value) -> Value:
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        raise ExprError("the number is too large")
    if isinstance(value, float) and not math.isfinite(value):
        raise ExprError("the number is too large")
    return value


# ---------------------------------------------------------------- functions and operators


def _extreme(name: str, pick: Callable[..., int | float]) -> Callable[..., int | float]:
    def call(*args: int | float) -> int | float:
        if len(args) < 2:
            raise ExprError(f"{name} needs two numbers or more")
        return pick(args)

    return call


def _one(name: str, function: Callable[[float], float]) -> Callable[..., int | float]:
    def call(*args: int | float) -> int | float:
        if len(args) != 1:
            raise ExprError(f"{name} needs one number, got {len(args)}")
        return function(args[0])

    return call


def _sqrt(value: float) -> float:
    if value < 0:
        raise ExprError(f"the square root of {value} does not exist")
    return math.sqrt(value)


def _round(*args: int | float) -> int | float:
    if len(args) == 1:
        return round(args[0])
    if len(args) != 2 or not isinstance(args[1], int) or abs(args[1]) > 15:
        raise ExprError("round needs a number, and at most the digits (-15 to 15) after it")
    return round(args[0], args[1])


FUNCTIONS: dict[str, Callable[..., int | float]] = {
    "min": _extreme("min", min),
    "max": _extreme("max", max),
    "round": _round,
    "abs": _one("abs", abs),
    "sqrt": _one("sqrt", _sqrt),
}

_ARITHMETIC: dict[type[ast.operator], tuple[str, Callable[..., int | float]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
    ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod),
    ast.Pow: ("**", operator.pow),
}

_COMPARE: dict[type[ast.cmpop], tuple[str, Callable[..., object]]] = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
}
