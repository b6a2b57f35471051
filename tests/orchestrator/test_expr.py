"""The expression language: values against Python's own, refusals one by one, and no way to hang."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.sweep.expr import ExprError, evaluate, parse

SCOPE = {"norm": "gn", "batch_per_gpu": 2, "workers": 3, "lr": 0.5, "amp": True}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("7 // 2", 3),
        ("-7 // 2", -4),
        ("7 % 4", 3),
        ("7 / 2", 3.5),
        ("2 ** 10", 1024),
        ("-batch_per_gpu", -2),
        ("0.02 * batch_per_gpu * workers / 8", 0.02 * 2 * 3 / 8),
        ("1e-4", 0.0001),
        ("min(8, 16 // batch_per_gpu)", 8),
        ("max(1, 2, lr)", 2),
        ("round(2.5)", 2),
        ("round(2.345, 1)", 2.3),
        ("abs(-3)", 3),
        ("sqrt(16)", 4.0),
        ("norm == 'gn'", True),
        ("norm != 'gn'", False),
        ("norm == 'gn' and batch_per_gpu <= 2", True),
        ("not (norm == 'gn' or lr > 1)", False),
        ("1 < batch_per_gpu < 3", True),
        ("1 < batch_per_gpu < 2", False),
        ("norm in ['bn', 'gn']", True),
        ("batch_per_gpu not in (1, 2)", False),
        ("3 if norm == 'bn' else 4", 4),
        ("amp", True),
        ("amp == True", True),
        ("batch_per_gpu == '2'", False),
        ("amp == 1", False),  # a truth value is no number here
    ],
)
def test_value(text: str, value: object) -> None:
    got = evaluate(parse(text), SCOPE)
    assert got == value
    assert type(got) is type(value)


def test_only_the_needed_branch_is_computed() -> None:
    assert evaluate(parse("1 if batch_per_gpu == 2 else 1 / 0"), SCOPE) == 1
    assert evaluate(parse("norm == 'gn' or 1 / 0 > 1"), SCOPE) is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("nrom == 'gn'", "did you mean 'norm'?"),
        ("norm == gn", "text needs quotes: 'gn'"),
        ("1 +", "column"),
        ("1 + * 2", "column 5"),
        ("min(lr", "inside { } YAML ends a value at a comma"),
        ("=lr", "leave out the leading '='"),
        ("lr = 2", "is not an expression"),
        ("1 / 0", "division by zero"),
        ("1 // 0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("2 ** 65", "exponents up to 64"),
        ("(-8) ** 0.5", "not allowed"),
        ("9 ** 60", "too large"),
        ("1e308 * 10", "too large"),
        ("1e999", "too large"),
        ("sqrt(-1)", "square root"),
        ("sqrt(1, 2)", "one number"),
        ("max(1)", "two numbers"),
        ("round(1, 99)", "digits"),
        ("norm * 2", "needs numbers, got the text 'gn'"),
        ("'a' % 3", "needs numbers"),
        ("amp + 1", "needs numbers, got true"),
        ("norm < 2", "cannot compare the text 'gn' with the number 2"),
        ("norm == 'bn' or 'gn'", "'or' needs a condition, got the text 'gn'"),
        ("not lr", "'not' needs a condition"),
        ("1 if lr else 2", "'if' needs a condition"),
        ("norm in 'gn'", "'in' needs a list"),
        ("lr is 1", "write == or !="),
        ("min", "min is a function"),
        ("open('x')", "unknown function 'open'"),
        ("maxx(1, 2)", "did you mean 'max'?"),
        ("norm.upper()", "are allowed"),
        ("().__class__", "are allowed"),
        ("[x for x in (1, 2)]", "are allowed"),
        ("lambda: 1", "are allowed"),
        ("norm[0]", "are allowed"),
        ("f'{lr}'", "are allowed"),
        ("1 << 70", "are allowed"),
        ("max(*[1, 2])", "are allowed"),
        ("max(1, b=2)", "are allowed"),
        ("b'x'", "not allowed"),
        ("1j", "not allowed"),
        ("None", "not allowed"),
        ("\x00", ""),
        ("1" * 501, "too long"),
        ("(" * 240 + "1" + ")" * 240, "nested too deeply|column"),
        ("-" * 400 + "1", "nested too deeply"),
        ("not " * 100 + "amp", "nested too deeply"),
    ],
)
def test_refused(text: str, words: str) -> None:
    with pytest.raises(ExprError) as caught:
        evaluate(parse(text, SCOPE), SCOPE)
    message = str(caught.value)
    assert any(part in message for part in words.split("|"))
    assert "\n" not in message


numbers = st.integers(-20, 20).map(str) | st.floats(-8, 8, width=16).map(repr)
atoms = numbers | st.sampled_from(["batch_per_gpu", "workers", "lr"])
arithmetic = st.recursive(
    atoms,
    lambda inner: st.builds(
        "({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner
    ),
    max_leaves=8,
)


@given(arithmetic)
def test_arithmetic_is_pythons(text: str) -> None:
    try:
        expected = eval(text, {"__builtins__": {}}, dict(SCOPE))
    except ZeroDivisionError:
        with pytest.raises(ExprError, match="division by zero"):
            evaluate(parse(text), SCOPE)
        return
    assert evaluate(parse(text), SCOPE) == expected


@given(st.text(alphabet="019.e+-*/%()<>=!, '\"[]{}anormlginotdef\\\n\t#:@~^&|", max_size=60))
def test_any_text_gives_a_value_or_an_expr_error(text: str) -> None:
    with contextlib.suppress(ExprError):
        evaluate(parse(text, SCOPE), SCOPE)


def test_a_tower_of_powers_ends() -> None:
    with pytest.raises(ExprError):
        evaluate(parse("9 ** 9 ** 9 ** 9 ** 9"), {})
    with pytest.raises(ExprError, match="too large"):
        evaluate(parse("*".join(["999999999999999999"] * 20)), {})
