"""The check before the first cell: does every arm take effect?

Two arms that differ in their settings and do the same would be trained twice and shown as a finding
("no difference"). So each arm is built once and measured (`detcore.signature`: parameters, losses
of a fixed batch, first batches), in processes of their own: planning imports no torch. A mistake
that only shows when a detector is built (groups that do not divide the channels, weights that are
not there) is found here too, and not by every cell in turn.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from detcore.config import CODE_VERSION, to_dict
from detcore.config.installed import check_backend
from orchestrator.planning.plan import Plan
from orchestrator.sweep.absent import ABSENT
from orchestrator.sweep.axes import text_of
from orchestrator.sweep.differences import differences
from orchestrator.sweep.expand import Cell
from orchestrator.sweep.identity import arm_key
from orchestrator.sweep.spec import SweepError

MOST_ARMS = 128
"""A second or so each: of a larger sweep the first ones are checked."""

Answer = dict[str, Any]  # {"signature": {part: digest}} or {"error": text}


def check_effects(plan: Plan) -> str:
    """Measure the baseline and every arm that has a cell to train; returns a line on what was done.

    Raises SweepError for an arm that cannot be built, for two that do the same, and for a library
    that is asked for and not installed. What passed is remembered beside the cells' folders and not
    measured again.
    """
    for backend in {planned.cell.config.runtime.coco_eval for planned in plan.todo}:
        try:
            check_backend(backend)
        except ValueError as error:
            raise SweepError(str(error)) from None
    arms = _arms(plan)
    done = plan.folder.parent / "checked" / _key(arms)
    if len(arms) < 2 or done.exists():
        return ""
    checked = arms[:MOST_ARMS]
    answers = _measure([to_dict(cell.config) for cell in checked])
    for cell, answer in zip(checked, answers, strict=True):
        if "error" in answer:
            raise SweepError(f"arm {cell.arm_label}: {answer['error']}")
    first: dict[str, Cell] = {}
    for cell, answer in zip(checked, answers, strict=True):
        same = first.setdefault(json.dumps(answer["signature"], sort_keys=True), cell)
        if same is not cell:
            raise _without_effect(plan, same, cell)
    done.parent.mkdir(parents=True, exist_ok=True)
    done.touch()
    rest = f" (the first of {len(arms)})" if len(checked) < len(arms) else ""
    return f"checked: each of {len(checked)} arms{rest} takes effect"


def _arms(plan: Plan) -> list[Cell]:
    """One cell of the baseline and of every arm with something to do, in the order of the plan. A
    baseline that is left out and whose data are absent is not asked for."""
    waits = [planned for planned in plan.cells if planned.waits]  # for tuning
    todo = {planned.cell.arm_label for planned in [*plan.todo, *waits]}
    arms: dict[str, Cell] = {}
    for planned in plan.whole().cells:
        cell = planned.cell
        is_baseline = cell.axes == plan.sweep.baseline and planned.fingerprint != ABSENT
        if cell.arm_label in todo or is_baseline:
            arms.setdefault(cell.arm_label, cell)
    return list(arms.values())


def _key(arms: Sequence[Cell]) -> str:
    content = [CODE_VERSION, *sorted(arm_key(cell.config) for cell in arms)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _without_effect(plan: Plan, one: Cell, other: Cell) -> SweepError:
    differing = [name for name in one.axes if one.axes[name] != other.axes[name]]
    what = " and ".join(
        f"axis {name}, levels {text_of(one.axes[name])!r} and {text_of(other.axes[name])!r}"
        for name in differing
    )
    settings = ", ".join(differences(one.config, other.config))
    return plan.sweep.document.error(
        ("axes", differing[0]),
        f"{what}: the arms {one.arm_label!r} and {other.arm_label!r} differ in their settings "
        f"({settings}) and do the same: equal parameters, losses on a fixed batch, data and "
        "first batches",
    )


def _measure(configs: Sequence[dict[str, Any]]) -> list[Answer]:
    """The answers of `python -m detcore.signature`, shared out over a few processes."""
    count = max(1, min(len(configs), os.cpu_count() or 1, 4))
    shares = [configs[i::count] for i in range(count)]
    with ThreadPoolExecutor(count) as pool:
        parts = list(pool.map(_ask, shares))
    return [parts[i % count][i // count] for i in range(len(configs))]


def _ask(configs: Sequence[dict[str, Any]]) -> list[Answer]:
    done = subprocess.run(
        [sys.executable, "-m", "detcore.signature"],
        input=json.dumps(configs),
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise SweepError(f"the check before the first cell failed: {last[0]}")
    answers: list[Answer] = json.loads(done.stdout)
    return answers
