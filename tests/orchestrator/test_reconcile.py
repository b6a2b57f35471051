"""What is on record of a plan before it starts, told from a real store."""

from __future__ import annotations

import pytest

from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.outlook import Outlook
from tests.orchestrator.pasts import NORM, STEPS, Pasts, of


def states(ahead: Outlook) -> dict[str, tuple[str, str]]:
    return {
        p.cell.label: tuple(ahead.reconciled.cells[p.id])  # type: ignore[misc]
        for p in ahead.plan.cells
    }


def test_reused_faulted_and_new(pasts: Pasts) -> None:
    plan = pasts.plan(**NORM)
    start = pasts.start(plan)
    pasts.ran(plan, of(plan, "norm=bn seed=0"), start=start)
    pasts.ran(plan, of(plan, "norm=gn seed=0"), "crashed", train=0, start=start)
    pasts.ran(plan, of(plan, "norm=gn seed=0"), "oom", train=0, start=start)
    ahead = pasts.ahead(plan)
    assert states(ahead) == {
        "norm=bn seed=0": ("reused", "converged"),
        "norm=gn seed=0": ("faulted", "oom"),
        "norm=bn seed=1": ("new", ""),
        "norm=gn seed=1": ("new", ""),
    }
    assert ahead.reconciled.dropped == ()
    assert "on record: 1 reused (converged), 1 faulted before (oom), 2 new" in ahead.to_text()
    assert ahead.spent == pytest.approx(3 * 2 * 1200 / 3600, rel=1e-3)  # faults cost as well


def test_other_code_other_data_other_settings(
    pasts: Pasts, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = pasts.plan(**NORM)
    start = pasts.start(old)
    for planned in old.cells:
        pasts.ran(old, planned, start=start)
    assert pasts.ahead(old).reconciled.counts()["reused"] == 4

    # the code has changed: no id is what it was
    now = old.info(old.cells[0]).provenance["code.version"]
    with monkeypatch.context() as patch:
        for module in ("sweep.identity", "planning.plan", "planning.reconcile"):
            patch.setattr(f"orchestrator.{module}.CODE_VERSION", "next")
        new = pasts.plan(**NORM)
        assert set(new.ids).isdisjoint(old.ids)
        ahead = pasts.ahead(new)
        assert ahead.reconciled.reasons("stale") == {f"code version {now}, now next": 4}
        assert ahead.reconciled.dropped == ()
        # the same cells take as long as before
        assert ahead.forecast.sources == {"arm": 4}

    # the data have changed
    source = {"kind": "shapes", "train_images": 300}
    data = {"data": {"source": source, "input": {"eval_short_side": pasts.side}}}
    ahead = pasts.ahead(pasts.plan(base={"train": {"steps": STEPS}, **data}, **NORM))
    assert ahead.reconciled.reasons("stale") == {"other data": 4}

    # the settings have: the base has another momentum
    ahead = pasts.ahead(pasts.plan(base={"optim": {"momentum": 0.8}}, **NORM))
    assert ahead.reconciled.reasons("stale") == {"other settings": 4}
    assert "4 stale (other settings)" in ahead.to_text()


def test_a_level_more_and_a_level_less(pasts: Pasts) -> None:
    plan = pasts.plan(**NORM)
    start = pasts.start(plan)
    for planned in plan.cells:
        pasts.ran(plan, planned, start=start)
    more = {"path": "model.neck.norm_act", "values": ["bn", "gn", "frozen_bn"]}
    ahead = pasts.ahead(pasts.plan(axes={"norm": more}))
    assert ahead.reconciled.counts() | {"reused": 4, "new": 2} == ahead.reconciled.counts()
    less = {"path": "model.neck.norm_act", "values": ["bn"]}
    ahead = pasts.ahead(pasts.plan(axes={"norm": less}))
    assert ahead.reconciled.counts()["reused"] == 2
    assert set(ahead.reconciled.dropped) == {"norm=gn seed=0", "norm=gn seed=1"}
    assert "no longer planned: 2 results (norm=gn seed=" in ahead.to_text()
    # a resource is no part of a cell
    ahead = pasts.ahead(pasts.plan(**NORM, resources={"workers": 2, "gpus_per_worker": 4}))
    assert ahead.reconciled.counts()["reused"] == 4


def test_labels_of_another_profile_mean_something_else(pasts: Pasts) -> None:
    profile = {"other": {"set": {"optim.momentum": 0.8}}}
    plan = pasts.plan(**NORM, profiles=profile)
    start = pasts.start(plan)
    for planned in plan.cells:
        pasts.ran(plan, planned, start=start)
    other = make_plan(pasts.folder / "sweep.yaml", profile="other", root=pasts.folder)
    ahead = pasts.ahead(other)
    assert ahead.reconciled.counts()["new"] == 4
    assert ahead.reconciled.dropped == ()
