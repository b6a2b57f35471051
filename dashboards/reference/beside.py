"""Our arms beside the rows of another report that they repeat: ours, theirs, the difference, and
what differs in how the numbers were made.

A report's row is one run. Whether it agrees with ours is asked of the noise between our seeds: is
it where a further seed of ours would be expected?
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from dashboards.inference import LEVEL
from dashboards.metrics import COCO
from dashboards.study import Arm, ReferenceRow, Study
from dashboards.wording import count

PROTOCOL = {
    "data": "data",
    "eval": "evaluation protocol",
    "train_short_sides": "short sides in training",
    "eval_short_side": "short side in evaluation",
    "steps": "optimiser steps",
    "batch": "images per GPU x GPUs",
    "lr": "learning rate",
    "warmup_steps": "steps of warm-up",
    "weights": "weights that training starts from",
}
"""What must agree, in the words of a reference file's `protocol` and of a plan's cells."""

PRINTED = 0.001  # the unit that a report's numbers are printed in


def beside(study: Study) -> dict[str, Any]:
    """Empty for a study without rows of another report. `differs`: what differs, or is not known to
    agree, in every arm that has a row."""
    pairs = [(arm, arm.reference) for arm in study.arms if arm.reference]
    if not pairs:
        return {}
    arms = [_beside(arm, row) for arm, row in pairs]
    common = [p for p in arms[0]["protocol"] if all(p in arm["protocol"] for arm in arms)]
    return {
        "source": study.reference,
        "differs": [p for p in common if p["match"] is not True],
        "arms": arms,
        "note": _note(arms),
    }


def _note(arms: list[dict[str, Any]]) -> str:
    """What `inside` can tell, of so many: it is asked of each number for itself."""
    asked = [m for arm in arms for m in arm["metrics"].values() if m["inside"] is not None]
    if not asked:
        return ""
    out = sum(not m["inside"] for m in asked)
    text = (
        f"{out} of {len(asked)} numbers of theirs are not among our seeds; about "
        f"{LEVEL * len(asked):.0f} would be by chance alone, if nothing differed"
    )
    if any(m["n"] == 2 for m in asked):
        text += ", and with two seeds the range is so wide that nearly every number is inside"
    return text


def _beside(arm: Arm, row: ReferenceRow) -> dict[str, Any]:
    convergence = _convergence(arm, row)
    protocol = compare_protocols(arm.protocol, row.protocol)
    return {
        "arm": arm.key,
        "id": row.id,
        "label": row.label,
        "remark": row.remark,
        "runs": 1,
        **convergence,
        "metrics": {m: _metric(arm, row, m) for m in COCO if arm.values(m) and m in row.metrics},
        "protocol": protocol,
        "matches": _all(p["match"] for p in protocol),
    }


def _metric(arm: Arm, row: ReferenceRow, metric: str) -> dict[str, Any]:
    """`low`, `high`: the 95 % interval of our mean. `expected`: where one further seed of ours
    would be expected with 95 %. Both are null for one seed, which tells no noise."""
    ours, theirs = arm.values(metric), row.metrics[metric]
    n, mean = len(ours), statistics.fmean(ours)
    low = high = None
    expected = None
    if n > 1:
        half, further = _half_widths(ours)
        low, high = mean - half, mean + half
        expected = [mean - further, mean + further]
    return {
        "n": n,
        "mean": mean,
        "low": low,
        "high": high,
        "seeds": [min(ours), max(ours)],
        "theirs": theirs,
        "difference": mean - theirs,  # ours - theirs
        "expected": expected,
        "inside": _inside(theirs, expected) if expected else None,
    }


def _inside(theirs: float, expected: list[float]) -> bool:
    """A report prints three digits: the number itself may lie half a unit to either side."""
    return expected[0] - PRINTED / 2 <= theirs <= expected[1] + PRINTED / 2


def _half_widths(values: list[float]) -> tuple[float, float]:
    """Of Student's interval for the mean, and of the one for a further value."""
    from scipy import special  # scipy takes a second to import

    n = len(values)
    sd = statistics.stdev(values)
    t = float(special.stdtrit(n - 1, 1 - LEVEL / 2))
    return t * sd / math.sqrt(n), t * sd * math.sqrt(1 + 1 / n)


# ---------------------------------------------------------------- convergence


def _convergence(arm: Arm, row: ReferenceRow) -> dict[str, Any]:
    """`agrees`: both converged or both did not; null while ours is not known, and where only some
    of our seeds converged."""
    settled = sum(cell.settled for cell in arm.cells)
    converged = sum(cell.outcome == "converged" for cell in arm.cells)
    agrees = None
    if settled and converged in (0, settled):
        agrees = (converged > 0) == row.converged
    return {
        "planned": len(arm.cells),
        "settled": settled,
        "converged": converged,
        "theirs_converged": row.converged,
        "agrees": agrees,
        "words": _words(len(arm.cells), settled, converged, row.converged),
    }


def _words(planned: int, settled: int, converged: int, theirs: bool) -> str:
    told = f"theirs {'converged' if theirs else 'did not converge'} (one run)"
    if not settled:
        return f"ours has no result yet; {told}"
    seeds = count(settled, "seed")
    if settled < planned:
        seeds += f", {planned - settled} without a result"
    if converged in (0, settled) and (converged > 0) == theirs:
        both = "both converged" if theirs else "neither converged"
        return f"{both} (ours: {seeds}; theirs: one run)"
    if converged and converged < settled:
        return f"ours converged in {converged} of {seeds}; {told}"
    return f"ours {'converged' if converged else 'did not converge'} ({seeds}), {told}"


# ---------------------------------------------------------------- protocols


def compare_protocols(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """For each entry of PROTOCOL ours, theirs, and whether they match: null where one of them is
    not known, and for data that may be the same ones."""
    out = []
    for name, title in PROTOCOL.items():
        a, b = ours.get(name), theirs.get(name)
        match = None if a is None or b is None else _match(name, a, b)
        out.append({"what": name, "title": title, "ours": a, "theirs": b, "match": match})
    return out


def _match(name: str, ours: Any, theirs: Any) -> bool | None:
    if name == "data":
        return _same_data(str(ours), str(theirs))
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return math.isclose(ours, theirs)
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        return list(ours) == list(theirs)
    return str(ours) == str(theirs)


def _same_data(ours: str, theirs: str) -> bool | None:
    """Names can tell that two sets differ, never that they are the same."""
    if ours.startswith("COCO") != theirs.startswith("COCO"):
        return False
    years = [set(re.findall(r"20\d\d", text)) for text in (ours, theirs)]
    return False if all(years) and not years[0] & years[1] else None


def _all(matches: Iterable[bool | None]) -> bool | None:
    """False if one does not match, null if one is not known, else true."""
    found = set(matches)
    return False if False in found else None if None in found else True
