"""Which arms may run out of memory, told from a real store. Worked examples by hand."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.planning.headroom import Gpu
from orchestrator.planning.plan import Plan
from tests.orchestrator.pasts import T4, Pasts, of

H100 = {"gpu.names": "2 x NVIDIA H100 80GB HBM3"}
OUT = (
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity "
    "of 14.56 GiB of which 1.06 GiB is free."
)


def batches(*values: int) -> dict[str, Any]:
    batch = {"path": "train.batch_per_gpu", "values": list(values)}
    return {"axes": {"batch": batch}, "seeds": [0]}


def may_fail(pasts: Pasts, plan: Plan) -> dict[str, str]:
    return {arm.arm: arm.evidence for arm in pasts.ahead(plan).tight}


def test_what_ran_out_of_memory_will_again(pasts: Pasts) -> None:
    plan = pasts.plan(**batches(2, 4, 8))
    assert may_fail(pasts, plan) == {}
    pasts.ran(plan, of(plan, "batch=4 seed=0"), "oom", train=0, reason=OUT, tags=T4)
    evidence = "batch=4 seed=0 ran out of memory at batch 4 on Tesla T4"
    assert may_fail(pasts, plan) == {"batch=4": evidence, "batch=8": evidence}
    assert f"caution: batch=8 may run out of memory: {evidence}" in pasts.ahead(plan).to_text()
    # as much has fitted since: it was something else
    pasts.ran(plan, of(plan, "batch=8 seed=0"), tags=T4)
    assert may_fail(pasts, plan) == {}


def test_memory_of_a_smaller_batch_against_what_the_gpu_has(pasts: Pasts) -> None:
    plan = pasts.plan(**batches(2, 4, 8))
    pasts.ran(plan, of(plan, "batch=2 seed=0"), tags=T4, peak_mem_gb=5.0)
    assert may_fail(pasts, plan) == {}  # nobody knows how large a T4 is
    # another network says how large: 14.56 GiB are 15.6e9 bytes; batch 8 is up to 20, batch 4 is 10
    pasts.ran(plan, of(plan, "batch=2 seed=0"), tags=T4 | {"gpu.memory_gb": "15.6"}, peak_mem_gb=5)
    assert may_fail(pasts, plan) == {
        "batch=8": "batch=2 seed=0 took 5.0 GB at batch 2 on Tesla T4; at batch 8 that is up to "
        "20.0 GB of 15.6 GB"
    }


def test_another_kind_of_gpu_says_nothing(pasts: Pasts, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = pasts.plan(**batches(2, 4))
    pasts.ran(plan, of(plan, "batch=2 seed=0"), "oom", train=0, reason=OUT, tags=T4)
    assert len(may_fail(pasts, plan)) == 2
    here = [Gpu("NVIDIA H100 80GB HBM3", 85.5)] * 2
    monkeypatch.setattr("orchestrator.planning.outlook.gpus_here", lambda: here)
    assert may_fail(pasts, plan) == {}
    pasts.ran(plan, of(plan, "batch=2 seed=0"), "oom", train=0, reason=OUT, tags=H100)
    assert len(may_fail(pasts, plan)) == 2
    assert pasts.ahead(plan).plan.cells[0].cell.resources.gpus == 2


def test_cells_without_gpus_have_no_gpu_memory(pasts: Pasts) -> None:
    plan = pasts.plan(**batches(2, 4), resources={"workers": 2})
    pasts.ran(plan, plan.cells[0], "oom", train=0, reason="MemoryError")
    assert may_fail(pasts, plan) == {}
