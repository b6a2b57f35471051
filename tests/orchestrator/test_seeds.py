"""Further seeds in a sweep file, in its plan and in its table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan_table import table_of
from orchestrator.planning.replicates import grown, table_notes
from orchestrator.planning.rounds import End
from orchestrator.sweep.seeds import Seeds
from orchestrator.sweep.spec import SweepError, load_sweep
from orchestrator.tracking.runs import Settled
from orchestrator.tracking.table import Row
from tests.orchestrator.extended import file_of, plan_of, played, value

# ---------------------------------------------------------------- the plan


def test_further_seeds_are_planned_as_possible_and_hashed_like_listed_ones(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert [p.cell.seed for p in plan.cells] == [0] * 3 + [1] * 3 + [2] * 3
    assert [p.cell.seed for p in plan.more] == [3] * 3 + [4] * 3 + [5] * 3
    listed = plan_of(tmp_path, seeds=[0, 1, 2, 3, 4, 5])
    assert {p.cell.label: p.id for p in (*plan.cells, *plan.more)} == {
        p.cell.label: p.id for p in listed.cells
    }
    assert "up to 6 seeds: at most 9 more cells" in plan.to_text()
    further = plan.to_json()["further"]
    assert further["seeds"] == [3, 4, 5]
    assert [cell["id"] for cell in further["cells"]] == [p.id for p in plan.more]
    assert "further" not in listed.to_json()


def test_seeds_go_on_after_the_largest(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, seeds={"list": [7, 3], "extend_to": 4})
    assert {p.cell.seed for p in plan.more} == {8, 9}


def test_looks_and_rounds() -> None:
    assert Seeds((0, 1)).looks == (2,)
    one = Seeds((0, 1), (2, 3, 4))
    assert (one.looks, one.rounds()) == ((2, 3, 4, 5), [(2,), (3,), (4,)])
    two = Seeds((0, 1), (2, 3, 4), by=2)
    assert (two.looks, two.rounds()) == ((2, 4, 5), [(2, 3), (4,)])


def test_only_blocks_without_seeds_of_their_own_are_extended(tmp_path: Path) -> None:
    design = [{"include": [{"norm": "bn"}, {"norm": "gn"}]}]
    design += [{"include": [{"norm": "evonorm_s0"}], "seeds": [0, 1]}]
    plan = plan_of(tmp_path, design=design)
    assert {str(p.cell.axes["norm"]) for p in plan.more} == {"bn", "gn"}
    noisy = {"bn": 0.0, "gn": 0.012, "evonorm_s0": 0.012}
    rule, asked = played(plan, lambda n, s: End("converged", 0.3 + noisy[n] * (-1) ** s))
    assert asked[1] == [("bn", 3), ("gn", 3)]
    ended = [d for d in rule.decisions if d.arm == "norm=evonorm_s0"]
    assert [d.action for d in ended] == ["ends: its block has seeds of its own"]


# ---------------------------------------------------------------- plans and tables


def settled(results: Mapping[str, End]) -> dict[str, Settled]:
    return {
        id_: Settled("", end.outcome, "", None, {"mAP": end.value}, {}, "")
        for id_, end in results.items()
        if end.value is not None
    }


def test_a_plan_takes_in_the_cells_that_its_results_ask_for(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    results = {p.id: value(str(p.cell.axes["norm"]), p.cell.seed) for p in plan.cells}
    more = grown(plan.reconciled(settled(results)))
    assert [p.cell.label for p in more.todo] == ["norm=bn seed=3", "norm=gn seed=3"]
    assert grown(more).ids == more.ids
    assert more.whole().ids == more.ids
    assert plan.asked(lambda ids: settled({i: results[i] for i in ids if i in results})).ids == (
        more.ids
    )
    part = make_plan(file_of(tmp_path), root=tmp_path, only="norm != 'gn'")
    assert grown(part.reconciled(settled(results))) == part.reconciled(settled(results))


def test_the_table_says_what_was_run_and_why(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    rule, _ = played(plan, value)
    plan = plan.extended(rule.cells)
    rows = [
        Row(p.cell.axes, p.cell.seed, end.outcome, {"mAP": end.value or 0.0}, id=p.id)
        for p in plan.cells
        for end in [value(str(p.cell.axes["norm"]), p.cell.seed)]
    ]
    table = table_of(plan, rows)
    texts = {head[0]: entries[0].text for head, entries in table.lines}
    assert "(6/6)" in texts["bn"]
    assert "(3/3)" in texts["evonorm_s0"]
    assert any("6 of at most 9 cells" in note for note in table.notes)
    assert any("norm=evonorm_s0: after 3 seeds +0.2000 [" in note for note in table.notes)
    waiting = [replace(row, outcome="waiting") if row.seed == 5 else row for row in rows]
    ended = {r.id: End(r.outcome, r.metrics["mAP"]) for r in waiting if r.outcome != "waiting"}
    assert "this round has not ended" in table_notes(plan, ended)[0]


def test_a_table_with_verdicts_does_not_warn_that_there_are_none(tmp_path: Path) -> None:
    for seeds, warned in (([0, 1], True), ({"list": [0, 1], "extend_to": 3}, False)):
        plan = plan_of(tmp_path, seeds=seeds)
        rows = [Row(p.cell.axes, p.cell.seed, "waiting", id=p.id) for p in plan.cells]
        notes = table_of(plan, rows).notes
        assert any("caution: with " in note for note in notes) == warned


def test_variances_that_are_known_to_differ_are_declared(tmp_path: Path) -> None:
    """evonorm_s0's seeds lie close together, gn's far apart: with variances of their own, the
    interval of the one gets narrower and that of the other wider."""
    widths = {}
    for kind in ("equal", "unequal"):
        folder = tmp_path / kind
        folder.mkdir()
        rule, _ = played(plan_of(folder, metric={"min_effect": 0.01, "variances": kind}), value)
        first = {d.arm: d for d in rule.decisions if d.round == 0}
        widths[kind] = {arm: (d.high or 0) - (d.low or 0) for arm, d in first.items()}
    assert widths["unequal"]["norm=gn"] > widths["equal"]["norm=gn"]
    assert widths["unequal"]["norm=evonorm_s0"] < widths["equal"]["norm=evonorm_s0"]


# ---------------------------------------------------------------- mistakes


def test_a_mistake_in_variances(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"metric\.variances: .*unequl.*unequal"):
        load_sweep(file_of(tmp_path, metric={"variances": "unequl"}))


@pytest.mark.parametrize(
    ("seeds", "key", "problem"),
    [
        ({"list": [0, 1], "extend_to": 2}, "extend_to", "more than the 2 of `list` and up to 100"),
        ({"list": [0, 1], "extend_to": 101}, "extend_to", "up to 100; is 101"),
        ({"list": [0, 1], "extend_to": "many"}, "extend_to", "must be a whole number, is 'many'"),
        ({"list": [0, 1], "extend_to": True}, "extend_to", "must be a whole number, is True"),
        ({"list": [0, 1], "extend_by": 2}, "extend_by", "goes with extend_to"),
        ({"list": [0], "extend_to": 3, "extend_by": 0}, "extend_by", "must be 1 to 2"),
        ({"list": [0], "extend_to": 3, "extend_by": 3}, "extend_by", "must be 1 to 2"),
        ({"list": [0], "extend_while": "open"}, "extend_while", "is not needed"),
        ({"list": [0], "extendto": 3}, "extendto", "did you mean 'extend_to'?"),
        ({"extend_to": 3}, "list", "must be a list of whole numbers, is None"),
        ({"list": [0, -1], "extend_to": 3}, "list.1", "must not be negative"),
    ],
)
def test_mistakes_in_seeds(tmp_path: Path, seeds: Any, key: str, problem: str) -> None:
    with pytest.raises(SweepError) as caught:
        load_sweep(file_of(tmp_path, seeds=seeds))
    message = str(caught.value)
    assert f": seeds.{key}: " in message
    assert problem in message
    assert "\n" not in message


@pytest.mark.parametrize("effect", [0, -0.1, 0.3, "small"])
def test_mistakes_in_min_effect(tmp_path: Path, effect: Any) -> None:
    with pytest.raises(SweepError, match=r"metric\.min_effect: "):
        load_sweep(file_of(tmp_path, metric={"min_effect": effect}))


def test_a_design_without_the_whole_baseline_cannot_be_extended(tmp_path: Path) -> None:
    absent = [{"include": [{"norm": "gn"}, {"norm": "evonorm_s0"}]}]
    with pytest.raises(SweepError, match=r"seeds\.extend_to: .*the design has no such arm"):
        plan_of(tmp_path, design=absent)
    part = [*absent, {"include": [{"norm": "bn"}], "seeds": [0]}]
    with pytest.raises(SweepError, match=r"seeds\.extend_to: .*with every seed of `list`"):
        plan_of(tmp_path, design=part)
    with pytest.raises(SweepError, match=r"seeds\.extend_to: there is no second arm"):
        plan_of(tmp_path, design=[{"include": [{"norm": "bn"}]}])
