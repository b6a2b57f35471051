"""A sweep whose seeds are extended, and results of its cells by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from orchestrator.planning.make_plan import make_plan
from orchestrator.planning.plan import Plan
from orchestrator.planning.replicates import Replicates
from orchestrator.planning.rounds import End

NORMS = ["bn", "gn", "evonorm_s0"]
SWEEP: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "axes": {"norm": {"path": "model.neck.norm_act", "values": NORMS}},
    "metric": {"min_effect": 0.01},
    "seeds": {"list": [0, 1, 2], "extend_to": 6},
}

Value = Callable[[str, int], End]


def file_of(folder: Path, **changes: Any) -> Path:
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(SWEEP | changes, sort_keys=False))
    return file


def plan_of(folder: Path, **changes: Any) -> Plan:
    return make_plan(file_of(folder, **changes), root=folder)


def value(norm: str, seed: int) -> End:
    """gn: differences to bn of +0.02 and -0.02 in turn, so that it is open until its seeds are
    spent; evonorm_s0: about +0.2, which is clear at once."""
    noise = (0.0, 0.002, -0.002, 0.001, -0.001, 0.0015)[seed]
    swing = (0.02, -0.02, 0.02, -0.02, 0.02, -0.02)[seed]
    return End("converged", 0.3 + {"bn": 0.0, "gn": swing, "evonorm_s0": 0.2 + noise}[norm])


def played(plan: Plan, value: Value) -> tuple[Replicates, list[list[tuple[str, int]]]]:
    """The rule, fed with whole rounds until it asks for nothing more; and what it asked for."""
    rule, asked, results = Replicates(plan), [], {}
    cells = list(plan.cells)
    while cells:
        asked.append([(str(p.cell.axes["norm"]), p.cell.seed) for p in cells])
        results |= {p.id: value(str(p.cell.axes["norm"]), p.cell.seed) for p in cells}
        cells = rule.next(results)
    return rule, asked
