"""dashboards/schema.json holds for every document and forgets no key; the README describes each."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import dashboards
from dashboards.document import document
from dashboards.images import OverImages
from dashboards.report import to_json
from dashboards.study import ReferenceRow, Study
from tests.dashboards.hostile import NAMES
from tests.dashboards.made import Seed, study

FOLDER = Path(dashboards.__file__).parent
SCHEMA: dict[str, Any] = json.loads((FOLDER / "schema.json").read_text("utf-8"))


def converged(value: float, **more: float) -> Seed:
    numbers = {"mAP": value, "AP50": 1.5 * value, "AP: dog": value, "gpu_hours": 1.0, **more}
    return {
        "outcome": "converged",
        "metrics": numbers,
        "step": 90,
        "links": {"mlflow": "http://h"},
        "tags": {"cell.workload": '{"batch": 2, "accumulate": 1, "ranks": 4}'},
    }


def factorial() -> Study:
    """Two axes, three seeds; GN helps at a batch of 1 alone."""

    def cells(more: float) -> list[Seed]:
        return [converged(0.30 + more), converged(0.32 + 0.9 * more), converged(0.31 + 1.1 * more)]

    arms = {(n, b): cells(0.05 * (n + b == "gn1")) for n in ("bn", "gn") for b in ("1", "2")}
    axes = {"norm": ["bn", "gn"], "batch": ["1", "2"]}
    return study(arms, axes, ("bn", "2"), min_effect=0.003)


SCREEN = {
    "block": "screen",
    "factors": {"a": [0, 1], "b": ["x", True], "c": [None, 0.5]},
    "runs": 4,
    "excluded": 0,
    "resolution": "III",
    "generators": ["c = a*b"],
    "defining": ["a*b*c"],
    "aliases": [{"effect": "a", "with": ["-b*c"]}],
}


def studies() -> Iterator[tuple[str, Study]]:
    norms = {"norm": ["bn", "gn", "evonorm_s0"]}
    yield "all converged", factorial()
    fault = {"outcome": "oom", "reason": "CUDA out of memory", "step": 3}
    failures: dict[tuple[str, ...], list[Seed]] = {
        ("bn",): [converged(0.30), ("diverged", 12), converged(0.31)],
        ("gn",): ["stalled", "diverged", "stalled"],
        ("evonorm_s0",): [fault, None, "running"],
    }
    yield "failures", study(failures, norms, ["bn"], state="running")
    one: dict[tuple[str, ...], list[Seed]] = {("bn",): [converged(0.30)], ("gn",): [converged(0.4)]}
    yield "one seed", study(one, norms, ["bn"])
    yield "no baseline", study(one, norms)
    yield "a baseline that failed", study({**one, ("bn",): ["diverged"]}, norms, ["bn"])
    yield "empty", study({}, norms)
    yield "nothing begun", study({("bn",): [None], ("gn",): [None]}, norms, ["bn"])
    conditional: dict[tuple[str, ...], list[Seed]] = {
        ("bn", "-"): [converged(0.30), converged(0.31)],
        ("gn", "8"): [converged(0.33), converged(0.35)],
        ("gn", "16"): [converged(0.30), converged(0.36)],
    }
    axes = {"norm": ["bn", "gn"], "groups": ["8", "16"]}
    yield "conditional axes", study(conditional, axes, ("bn", "-"))
    for name in NAMES:
        levels = {f"a{name}": [name, f"{name}2"]}
        cell = {"outcome": "crashed", "reason": name, "label": name, "folder": name}
        hostile: dict[tuple[str, ...], list[Seed]] = {
            (name,): [converged(0.3, **{f"AP: {name}": 0.2})],
            (f"{name}2",): [cell],
        }
        yield repr(name), study(hostile, levels, [name], name=name, question=name)
    yield "everything", everything()


def everything() -> Study:
    """A document of it has every key of the schema somewhere."""
    row = ReferenceRow("B04", "1)", {"mAP": 0.3}, True, "a remark", {"steps": 90})
    of = factorial()
    broken = replace(of.arms[1].cells[0], outcome="diverged", step=7)
    arms = (
        of.arms[0],
        replace(of.arms[1], reference=row, cells=(broken, *of.arms[1].cells[1:])),
        *of.arms[2:],
    )
    left = {"label": "norm=none", "axes": {"norm": "none", "batch": 2}, "blocks": ["b"], "why": "w"}
    return replace(of, arms=arms, reference="a report", excluded=(left,), aliases=(SCREEN,))


def curves(of: Study) -> dict[str, Any]:
    return {
        cell.id: {"loss/total": [[0, math.inf]], "mAP": [[45, 0.2], [90, 0.3]]} for cell in of.cells
    }


@pytest.mark.parametrize(("name", "of"), [pytest.param(*s, id=s[0][:20]) for s in studies()])
def test_documents_are_as_the_schema_says(name: str, of: Study) -> None:
    made = json.loads(to_json(document(of, curves(of))))
    jsonschema.Draft202012Validator(SCHEMA).validate(made)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_an_undocumented_key_and_a_missing_one_fail() -> None:
    """At every place of a document that has keys of its own."""
    validator = jsonschema.Draft202012Validator(SCHEMA)
    of = everything()
    whole = document(of, curves(of), images=[OverImages("a1", 0)])
    assert validator.is_valid(whole)
    places: dict[str, tuple[dict[str, Any], list[str]]] = {}
    for path, place, fixed in objects(SCHEMA, whole):
        places.setdefault(path, (place, fixed))
    assert set(places) == {"", *(path for path in paths(SCHEMA) if f"{path}." in KEYED)}
    for path, (place, fixed) in places.items():
        place["undocumented"] = 1
        assert not validator.is_valid(whole), path
        del place["undocumented"]
        for key in fixed:
            value = place.pop(key)
            assert not validator.is_valid(whole), f"{path}.{key}"
            place[key] = value
    assert validator.is_valid(whole)


def objects(schema: Any, value: Any, path: str = "") -> Iterator[tuple[str, Any, list[str]]]:
    """The mappings in `value` whose keys the schema names, with those that have to be there."""
    schema = resolved(schema)
    if schema.get("properties") and isinstance(value, dict):
        yield path, value, schema.get("required", [])
        for key, one in schema["properties"].items():
            if key in value:
                yield from objects(one, value[key], f"{path}.{key}".removeprefix("."))
    elif isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        for one in value.values():
            yield from objects(schema["additionalProperties"], one, f"{path}.*")
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for one in value:
            yield from objects(schema["items"], one, f"{path}[]")


def resolved(schema: Any) -> dict[str, Any]:
    """Without references, and without `or null`."""
    if "anyOf" in schema:
        schema = next(one for one in schema["anyOf"] if one.get("type") != "null")
    if "$ref" in schema:
        return resolved(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    return dict(schema)


def paths(schema: Any, path: str = "") -> Iterator[str]:
    """All that a document may hold: `arms[].levels.*`."""
    schema = resolved(schema)
    if path:
        yield path
    for key, one in schema.get("properties", {}).items():
        yield from paths(one, f"{path}.{key}".removeprefix("."))
    if isinstance(schema.get("additionalProperties"), dict):
        yield from paths(schema["additionalProperties"], f"{path}.*")
    if isinstance(schema.get("items"), dict):
        yield from paths(schema["items"], f"{path}[]")


KEYED = {p.rpartition(".")[0] + "." for p in paths(SCHEMA) if not p.rstrip("[]").endswith("*")}
"""The beginnings of paths that end in a key of the schema."""


# ---------------------------------------------------------------- the README

OUTCOMES = ".outcomes."  # described in one place


def test_every_key_is_described_in_the_readme_and_no_other() -> None:
    text = (FOLDER / "README.md").read_text("utf-8").partition("## The JSON document")[2]
    rows = [line.split("|")[1] for line in text.split("\n") if line.startswith("| `")]
    described = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    known = {path for path in paths(SCHEMA) if OUTCOMES not in path}
    assert set(described) == known
    assert len(described) == len(set(described))
