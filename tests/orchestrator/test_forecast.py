"""What a plan says before it starts, told from a real store: costs, machines, and the commands that
show them. Worked examples by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

from orchestrator import run
from orchestrator.cluster.connect import Cluster
from orchestrator.cluster.room import Shape
from orchestrator.planning.headroom import Gpu
from orchestrator.planning.machine import read_gpus
from orchestrator.planning.makespan import makespan
from orchestrator.planning.outlook import look_ahead
from orchestrator.planning.workload import workload_of
from orchestrator.running.probe import probe_plan
from orchestrator.sweep.budget import Budget
from tests.orchestrator.pasts import NORM, STEPS, T4, Pasts, of

# ---------------------------------------------------------------- costs


def test_without_a_past_nothing_is_guessed(pasts: Pasts) -> None:
    ahead = pasts.ahead(pasts.plan())
    assert ahead.forecast.gpu_hours == 0
    assert len(ahead.forecast.unknown) == 8
    assert ahead.wall.seconds is None
    assert not ahead.asks
    assert "cost:      not known: no past cell has their model" in ahead.to_text()


def test_the_nearest_past_tells_each_cell(pasts: Pasts) -> None:
    plan = pasts.plan()
    pasts.ran(plan, of(plan, "norm=bn lr=0.01 seed=0"), wall=1300, train=1000)
    costs = {p.cell.label: pasts.ahead(plan).forecast.costs.get(p.id) for p in plan.cells}
    told = {label: cost and (cost.source, cost.seconds) for label, cost in costs.items()}
    seconds = pytest.approx(1300, abs=1)
    assert told == {
        "norm=bn lr=0.01 seed=0": None,  # it has a result
        "norm=bn lr=0.01 seed=1": ("arm", seconds),
        "norm=bn lr=0.02 seed=0": ("workload", seconds),  # a learning rate costs nothing
        "norm=bn lr=0.02 seed=1": ("workload", seconds),
        "norm=gn lr=0.01 seed=0": ("", None),  # another norm is another model
        "norm=gn lr=0.01 seed=1": ("", None),
        "norm=gn lr=0.02 seed=0": ("", None),
        "norm=gn lr=0.02 seed=1": ("", None),
    }
    ahead = pasts.ahead(plan)
    # three cells of 1,300 s on 2 GPUs; together on the 2 GPUs of the largest, one after another
    assert ahead.forecast.gpu_hours == pytest.approx(3 * 1300 * 2 / 3600, rel=1e-3)
    assert ahead.forecast.core_hours == 0
    assert ahead.forecast.sources == {"arm": 1, "workload": 2}
    assert ahead.wall.seconds == pytest.approx(3900, rel=1e-3)
    assert "as many as the largest cell takes" in ahead.wall.where
    text = " ".join(ahead.to_text().split())
    assert (
        "cost: at least 2.17 GPU-hours (1 cell from other seeds of the same arm; 2 cells from runs "
        "with the same model, input, batch and gang, by their steps); not known of 4 cells "
        "(norm=gn lr=0.01, norm=gn lr=0.02)"
    ) in text


def test_training_is_scaled_by_steps_and_the_rest_is_not(pasts: Pasts) -> None:
    plan = pasts.plan()
    for seconds in (900, 1000, 2000):  # of training; each starts and evaluates in 200 s
        pasts.ran(plan, of(plan, "norm=bn lr=0.01 seed=0"), wall=seconds + 200, train=seconds)
    # one that ended early says little of the rest
    pasts.ran(plan, of(plan, "norm=bn lr=0.01 seed=1"), "diverged", wall=900, train=800, step=10)
    long = pasts.plan(base={"train": {"steps": 3 * STEPS, "batch_per_gpu": 2}})
    cost = pasts.ahead(long).forecast.costs[of(long, "norm=bn lr=0.01 seed=0").id]
    assert (cost.source, cost.runs, cost.steps) == ("workload", 3, STEPS)
    assert cost.seconds == pytest.approx(3 * 1000 + 200, abs=1)  # of the median one


def test_a_cell_that_was_cut_short_tells_its_own_speed(pasts: Pasts) -> None:
    plan = pasts.plan()
    cut = of(plan, "norm=gn lr=0.02 seed=1")
    # 2 workers x 2 images at 8 images a second: half a second a step; no train_hours of a fault
    pasts.ran(plan, cut, "lost", train=0, images_per_s=8.0)
    cost = pasts.ahead(plan).forecast.costs[cut.id]
    assert (cost.source, cost.seconds) == ("cell", 500)


def test_a_larger_gang_or_batch_is_another_workload(pasts: Pasts) -> None:
    plan = pasts.plan()
    pasts.ran(plan, plan.cells[0])
    for change in (
        {"resources": {"workers": 4, "gpus_per_worker": 1}},
        {"resources": {"workers": 2}},
        {"base": {"train": {"steps": STEPS, "batch_per_gpu": 4}}},
        {"base": {"data": {"input": {"eval_short_side": 500}}}},
        {"base": {"train": {"steps": STEPS, "batch_per_gpu": 2, "accumulate": 2}}},
    ):
        ahead = pasts.ahead(pasts.plan(**change))
        assert {*ahead.forecast.unknown} == {*ahead.forecast.costs}, change


def test_a_few_steps_are_called_rough(pasts: Pasts) -> None:
    plan = pasts.plan()
    pasts.ran(plan, of(plan, "norm=bn lr=0.01 seed=0"), "stalled", wall=12, train=4, step=2)
    ahead = pasts.ahead(plan)
    cost = ahead.forecast.costs[of(plan, "norm=bn lr=0.01 seed=1").id]
    assert cost.seconds == pytest.approx(2 * STEPS + 8, abs=1)
    assert "rough, as some were measured over fewer than 20 steps" in " ".join(
        ahead.to_text().split()
    )


def test_rows_of_another_report_tell_their_hours(pasts: Pasts) -> None:
    rows = {"R1": {"label": "one", "train_hours": 30}, "R2": {"label": "two"}}
    (pasts.folder / "rows.yaml").write_text(yaml.safe_dump({"source": "S", "rows": rows}))
    arms = {"R1": {"norm": "bn", "lr": 0.01}, "R2": {"norm": "gn", "lr": 0.01}}
    ahead = pasts.ahead(pasts.plan(reference={"file": "rows.yaml", "arms": arms}))
    assert ahead.forecast.sources == {"reference": 2}
    assert ahead.forecast.gpu_hours == pytest.approx(2 * 30 * 2)
    assert ahead.asks  # 120 GPU-hours


# ---------------------------------------------------------------- the clock


def gang(gpus: int) -> Shape:
    return Shape(gpus, 1, 1)


ONE = {"a": {"CPU": 8, "GPU": 8}}
TWO = {"a": {"CPU": 8, "GPU": 4}, "b": {"CPU": 8, "GPU": 4}}


def test_the_clock_by_hand() -> None:
    assert makespan([], ONE) == 0
    # two of 4 GPUs side by side for 3 s, then the one of 8 for 2 s
    assert makespan([(3, gang(4)), (2, gang(8)), (3, gang(4))], ONE) == 5
    # longest first: 5 | 4 and 3 behind it | 3: on two slots of 4 GPUs 8 and 7
    assert makespan([(3, gang(4)), (3, gang(4)), (4, gang(4)), (5, gang(4))], ONE) == 8
    # a gang of 3 leaves one GPU of each node, which two small ones fill
    assert makespan([(9, gang(3)), (9, gang(3)), (4, gang(1)), (5, gang(1))], TWO) == 9
    # a gang that is larger than a node lies on both
    assert makespan([(2, gang(6)), (1, gang(2))], TWO) == 2
    # never more at once than is allowed
    assert makespan([(1, gang(1))] * 6, ONE, max_concurrent=2) == 3
    assert makespan([(1, gang(2))] * 6, ONE, max_gpus=4) == 3
    # what never fits
    assert makespan([(1, gang(9))], ONE) is None
    assert makespan([(1, gang(4))], ONE, max_gpus=3) is None
    assert makespan([(1, Shape(1, cpus=9))], ONE) is None


def test_the_clock_is_between_its_bounds() -> None:
    """Never below the work shared out evenly nor the longest cell; and with gangs of one GPU within
    4/3 of that (Graham 1969: longest first is within 4/3 of the best)."""
    for length in range(1, 40):
        jobs = [(float(1 + (7 * i * i + length) % 23), gang(1)) for i in range(length)]
        took = makespan(jobs, ONE)
        least = max(sum(s for s, _ in jobs) / 8, max(s for s, _ in jobs))
        assert took is not None
        assert least <= took <= 4 / 3 * least + max(s for s, _ in jobs) / 3
    mixed = [(float(1 + i % 5), gang(2 ** (i % 4))) for i in range(60)]
    took = makespan(mixed, TWO)
    assert took is not None
    assert took >= sum(s * shape.workers for s, shape in mixed) / 8


def test_the_machines_are_named(pasts: Pasts) -> None:
    plan = pasts.plan(seeds=list(range(5)))
    for label in ("norm=bn lr=0.01 seed=0", "norm=gn lr=0.01 seed=0"):
        pasts.ran(plan, of(plan, label), wall=3600, train=3600)
    # 18 cells of an hour and 2 GPUs: 4 at once on 8 GPUs, 3 at once if no more are wanted
    ahead = pasts.ahead(plan, Budget(max_gpus=8))
    assert ahead.wall.seconds == pytest.approx(5 * 3600, rel=1e-3)
    assert ahead.wall.where == "8 GPUs (budget.max_gpus)"
    ahead = pasts.ahead(plan, Budget(max_gpus=8, max_concurrent=3))
    assert ahead.wall.seconds == pytest.approx(6 * 3600, rel=1e-3)
    assert ahead.wall.where.endswith("at most 3 cells at once")


def test_a_cluster_is_reckoned_with_as_it_is(pasts: Pasts) -> None:
    node = {"CPU": 32.0, "GPU": 4.0, "accelerator_type:H100": 1.0}
    cluster = Cluster((node, node), dashboard="", local=False, needs_token=False)
    plan = pasts.plan(seeds=[0, 1, 2])
    for norm in ("bn", "gn"):
        pasts.ran(plan, of(plan, f"norm={norm} lr=0.01 seed=0"), wall=3600, train=3600, tags=T4)
    plan = plan.reconciled(pasts.ledger.settled(plan.ids))
    # 10 cells of an hour on 2 GPUs, 4 of them at once on the 8 GPUs
    ahead = look_ahead(plan, Budget(), cluster)
    assert ahead.wall.seconds == pytest.approx(3 * 3600, rel=1e-3)
    assert ahead.wall.where == "2 nodes (64 CPUs, 8 GPUs)"
    ahead = look_ahead(plan, Budget(max_gpus=4), cluster)
    assert ahead.wall.seconds == pytest.approx(5 * 3600, rel=1e-3)
    assert ahead.wall.where == "2 nodes (64 CPUs, 8 GPUs), at most 4 GPUs at once"


def test_what_the_driver_says() -> None:
    text = (
        "0, GPU-8a1c, NVIDIA H100 80GB HBM3, 81559\n"
        "1, GPU-9b2d, NVIDIA H100 80GB HBM3, 81559\n"
        "10, GPU-7777, Tesla T4, [N/A]\n"
    )
    h100 = Gpu("NVIDIA H100 80GB HBM3", pytest.approx(85.52, abs=0.01))  # type: ignore[arg-type]
    assert read_gpus(text) == [h100, h100, Gpu("Tesla T4")]
    assert read_gpus(text, "10") == [Gpu("Tesla T4")]
    assert read_gpus(text, "GPU-9b,10") == [h100, Gpu("Tesla T4")]
    assert read_gpus(text, "") == []
    assert read_gpus("No devices were found\n") == []


# ---------------------------------------------------------------- the command


def test_a_dry_run_tells_all_of_it_to_programs(
    pasts: Pasts, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = pasts.plan(**NORM, budget={"gpu_hours": 2})
    pasts.ran(plan, of(plan, "norm=bn seed=0"), wall=3600, train=3600)
    arguments = ["sweep.yaml", "--dry-run"]
    assert run.main([*arguments, "--json", "--max-gpus", "4"]) == 0
    told = json.loads(capsys.readouterr().out)
    # 1 cell of an hour on 2 GPUs is known of the 3 that are left
    assert told["reconcile"] | {"reused": 1, "new": 3, "dropped": []} == told["reconcile"]
    forecast = told["forecast"]
    assert forecast["gpu_hours"] == pytest.approx(2, rel=1e-3)
    assert forecast["wall_s"] == pytest.approx(3600, rel=1e-3)
    assert (forecast["cells"], forecast["unknown"], forecast["sources"]) == (3, 2, {"arm": 1})
    assert told["budget"] == {
        "gpu_hours": 2,
        "max_gpus": 4,
        "max_concurrent": None,
        "confirm_gpu_hours": 100,
        "spent_gpu_hours": pytest.approx(2, rel=1e-3),
        "asks": False,
    }
    cells = {cell["label"]: cell for cell in told["cells"]}
    assert cells["norm=bn seed=0"]["forecast"] is None
    assert cells["norm=bn seed=1"]["forecast"]["source"] == "arm"
    assert cells["norm=bn seed=0"]["ledger"] == {"state": "reused", "why": "converged"}
    assert run.main(arguments) == 0
    text = capsys.readouterr().out
    assert "budget:    2 of 2 GPU-hours spent" in text
    assert "2 GPU-hours are forecast and 0 are left of the budget" in text


def test_a_costly_start_is_refused_where_nobody_can_be_asked(
    pasts: Pasts, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = pasts.plan(**NORM, budget={"confirm_gpu_hours": 1})
    pasts.ran(plan, of(plan, "norm=bn seed=0"), wall=3600, train=3600)
    assert run.main(["sweep.yaml"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    last = said.err.splitlines()[-1]
    assert "at least 2 GPU-hours are forecast (1 cell from other seeds of the same arm)" in last
    assert "above 1 (budget.confirm_gpu_hours) a start asks" in last
    assert last.endswith("nothing was started; --yes starts it")
    # more than half a GPU-hour it may not cost; but then it goes on to Ray, which is another test
    assert not pasts.ahead(plan, Budget(gpu_hours=2.5, confirm_gpu_hours=1)).asks


def test_a_probe_is_one_short_cell_of_each_workload(pasts: Pasts) -> None:
    schedule = {"kind": "step", "warmup_steps": 50}
    plan = pasts.plan(base={"schedule": schedule, "eval": {"every": 10}})
    short = probe_plan(plan, list(plan.cells))
    assert short.sweep.name == f"{pasts.name}-probe"
    # two norms; their learning rates and seeds cost the same
    assert [p.cell.label for p in short.cells] == [
        "probe norm=bn lr=0.01 seed=0",
        "probe norm=gn lr=0.01 seed=0",
    ]
    for planned, whole in zip(short.cells, (plan.cells[0], plan.cells[2]), strict=True):
        config = planned.cell.config
        assert config.train == replace(whole.cell.config.train, steps=50)
        # what 50 steps would not outlive: a warm-up whose first step has a fiftieth of the rate
        assert (config.schedule.warmup_steps, config.optim.lr) == (0, 0.01 / 50)
        assert config.eval.every == 0
        assert planned.id not in plan.ids
        assert workload_of(planned.cell) == workload_of(whole.cell)
    pasts.ran(short, short.cells[0], "stalled", wall=30, train=20)
    cost = pasts.ahead(plan).forecast.costs[plan.cells[0].id]
    assert cost.source == "workload"
    assert cost.seconds == pytest.approx(20 * STEPS / 50 + 10, abs=1)
    # a cell of fewer steps is probed whole
    few = pasts.plan(base={"train": {"steps": 7}})
    assert probe_plan(few, list(few.cells)).cells[0].cell.config.train.steps == 7
