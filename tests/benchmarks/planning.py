"""How long a plan takes: reading a sweep, expanding it, hashing its cells, seeing what has settled.

    python -m tests.benchmarks.planning [CELLS ...]

Prints the seconds of each stage for sweeps of about 1,000, 3,000 and 10,000 cells, and the cells of
each second. `seeds` is the usual sweep, three seeds of every arm; `arms` has one seed, so that no
two cells share their arm. Every arm has another learning rate, schedule length and batch, and the
norm, loss and neck of the detector vary, so no stage can pass over its work. `reconcile` asks which
ids have settled, of a mapping in memory: what MLflow takes is not in it.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from orchestrator.planning.make_plan import make_plan
from orchestrator.sweep.expand import expand
from orchestrator.sweep.identity import Texts, cell_id
from orchestrator.sweep.spec import load_sweep
from orchestrator.tracking.runs import Settled

ROOT = Path(__file__).parents[2]
T = TypeVar("T")

SWEEP = """\
version: 1
name: planning
base: {base}
axes:
  norm:
    path: [model.backbone.norm_act, model.neck.norm_act, model.head.norm_act]
    values: {{bn: bn, gn: {{kind: gn, groups: 8}}, evonorm_s0: {{kind: evonorm_s0, groups: 8}}}}
  eps: {{path: model.head.norm_act.eps, values: [1.0e-5, 1.0e-3], when: norm != 'bn'}}
  batch: {{path: train.batch_per_gpu, values: [1, 2, 4]}}
  loss: {{path: model.box_loss, values: [giou, ciou, huber]}}
  rate: {{values: {rates}}}
derive:
  global_batch: batch * workers
  lr: rate * global_batch / 8
  steps: 20480 // global_batch
set: {{optim.lr: =lr, train.steps: =steps, schedule.warmup_steps: =steps // 10}}
assert: [lr > 0]
exclude: [{{if: norm == 'bn' and batch == 1 and loss == 'huber', why: it diverges}}]
seeds: {seeds}
resources: {{workers: 2}}
"""
ARMS = (1 + 2 + 2) * 3 * 3 - 1  # of one rate


def sweep_file(folder: Path, cells: int, seeds: int) -> Path:
    rates = [round(0.001 * (i + 1), 6) for i in range(max(1, round(cells / ARMS / seeds)))]
    file = folder / f"{cells}_{seeds}.yaml"
    base = ROOT / "sweeps/bases/shapes_tiny.yaml"
    file.write_text(SWEEP.format(base=base, rates=rates, seeds=list(range(seeds))))
    return file


def timed(times: list[float], call: Callable[[], T]) -> T:
    start = time.perf_counter()
    out = call()
    times.append(time.perf_counter() - start)
    return out


def measure(file: Path, folder: Path) -> tuple[int, list[float]]:
    """The number of cells, and the seconds of reading, expanding, hashing, reconciling and of a
    whole plan with its text and JSON."""
    times: list[float] = []
    sweep = timed(times, lambda: load_sweep(file))
    cells = timed(times, lambda: expand(sweep))
    texts = Texts()
    timed(times, lambda: [cell_id(cell.config, "data", texts) for cell in cells])
    plan = make_plan(file, root=folder)
    settled = {id: Settled("", "converged", "", None, {}, {}, "") for id in plan.ids[::2]}
    timed(times, lambda: plan.reconciled(settled).todo)
    timed(times, lambda: make_plan(file, root=folder).reconciled(settled))
    return len(cells), times


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds of each stage of a plan.")
    parser.add_argument("cells", nargs="*", type=int, default=[1_000, 3_000, 10_000])
    args = parser.parse_args()
    print(f"Python {platform.python_version()}, {platform.machine()}; seconds")
    print(f"{'':9}{'cells':>7}{'read':>8}{'expand':>8}{'hash':>8}{'reconcile':>11}{'all':>8}")
    with tempfile.TemporaryDirectory() as name:
        for seeds, what in ((3, "seeds"), (1, "arms")):
            for cells in args.cells:
                count, (read, expanded, hashed, reconciled, whole) = measure(
                    sweep_file(Path(name), cells, seeds), Path(name)
                )
                print(
                    f"{what:9}{count:>7}{read:>8.2f}{expanded:>8.2f}{hashed:>8.2f}"
                    f"{reconciled:>11.3f}{whole:>8.2f}"
                )


if __name__ == "__main__":
    main()
