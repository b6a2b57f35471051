"""What a sweep may cost: read, overridden, and out of every id. (Mistakes: test_mistakes.py.)"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestrator.planning.make_plan import make_plan
from orchestrator.sweep.budget import Budget, check_gang
from orchestrator.sweep.spec import SweepError, load_sweep

SWEEP = {
    "version": 1,
    "name": "small",
    "axes": {"norm": {"path": "model.neck.norm_act", "values": ["bn", "gn"]}},
    "profiles": {"large": {"budget": {"max_gpus": 64}}},
}
BUDGET = {"gpu_hours": 2500, "max_gpus": 32, "max_concurrent": 8, "confirm_gpu_hours": 10.5}


def written(folder: Path, budget: object = None) -> Path:
    file = folder / "sweep.yaml"
    sweep = SWEEP if budget is None else {**SWEEP, "budget": budget}
    file.write_text(yaml.safe_dump(sweep, sort_keys=False))
    return file


def test_the_file_the_profile_and_the_arguments_in_this_order(tmp_path: Path) -> None:
    file = written(tmp_path, BUDGET)
    assert load_sweep(file).budget == Budget(2500, 32, 8, 10.5)
    large = load_sweep(file, profile="large", overrides=["budget.gpu_hours=1e4"]).budget
    assert large == Budget(10_000, 64, 8, 10.5)
    assert large.over(gpu_hours=7, max_concurrent=2) == Budget(7, 64, 2, 10.5)
    assert large.over() == large
    # without a budget nothing is limited, and 100 GPU-hours are asked about
    assert load_sweep(written(tmp_path)).budget == Budget(None, None, None, 100)


def test_a_budget_changes_no_id(tmp_path: Path) -> None:
    ids = make_plan(written(tmp_path), root=tmp_path).ids
    assert make_plan(written(tmp_path, BUDGET), root=tmp_path).ids == ids


def test_what_is_asked_about() -> None:
    assert not Budget().asks(100)
    assert Budget().asks(100.1)
    assert Budget(confirm_gpu_hours=0).asks(0.1)
    assert not Budget(confirm_gpu_hours=0).asks(0)  # a sweep on CPUs
    # 300 may be spent and 220 are: it cannot cost more than 80, whatever the forecast
    assert not Budget(gpu_hours=300).asks(1000, spent=220)
    assert Budget(gpu_hours=300).asks(1000, spent=190)
    assert Budget(gpu_hours=300).left(220) == 80
    assert Budget(gpu_hours=300).left(301) == 0
    assert Budget().left(220) is None


def test_a_gang_that_may_never_start_is_an_error_with_its_line(tmp_path: Path) -> None:
    sweep = load_sweep(written(tmp_path, {"max_gpus": 4}))
    check_gang(sweep.budget, "a", 4, sweep.document)
    with pytest.raises(SweepError) as caught:
        check_gang(sweep.budget, "norm=gn seed=0", 8, sweep.document)
    line = (tmp_path / "sweep.yaml").read_text().splitlines().index("  max_gpus: 4") + 1
    assert str(caught.value).startswith(f"{tmp_path}/sweep.yaml:{line}: budget.max_gpus: cell norm")
    assert "takes 8 GPUs, and at most 4 may be held at once" in str(caught.value)
