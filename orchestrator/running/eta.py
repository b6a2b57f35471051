"""How long a sweep will still take, told from the cells that have finished. Pure functions."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from statistics import median

from orchestrator.wording import count


@dataclass(frozen=True)
class Work:
    """A cell. `arm` is equal for its other seeds, `shape` for cells that do about as much on as
    much hardware; `slots` are the CPUs or GPUs that it holds."""

    label: str
    arm: Hashable
    shape: Hashable
    slots: float = 1.0
    seconds: float = 0.0  # a finished one: all it took; a running one: since it began
    done: float | None = None  # a running one: the part of its steps that is behind it


@dataclass(frozen=True)
class Estimate:
    """`seconds` is None when nothing can be said; `basis` says from what, or why not."""

    seconds: float | None
    basis: str


def time_left(
    finished: Iterable[Work], running: Iterable[Work], waiting: Iterable[Work]
) -> Estimate:
    """A cell takes the median of its arm's finished seeds, else of the finished cells of its shape;
    without either nothing is said. The rest is shared by as many slots as are held now.
    """
    finished, running, waiting = list(finished), list(running), list(waiting)
    if not running:
        return Estimate(None, "nothing is running")
    known: dict[Hashable, list[float]] = {}
    for work in finished:
        for group in (("arm", work.arm), ("shape", work.shape)):
            known.setdefault(group, []).append(work.seconds)

    def whole(work: Work) -> float | None:
        group = known.get(("arm", work.arm)) or known.get(("shape", work.shape))
        return median(group) if group else None

    for work in (*running, *waiting):
        if whole(work) is None:
            return Estimate(None, f"no cell of the shape of {work.label} has finished yet")
    rest = [(_rest(work, whole(work) or 0.0), work.slots) for work in running]
    total = sum(seconds * slots for seconds, slots in rest)
    total += sum((whole(work) or 0.0) * work.slots for work in waiting)
    held = sum(slots for _, slots in rest) or 1.0
    # the longest cell cannot be shared out
    seconds = max(total / held, max(left for left, _ in rest))
    cells = count(len(finished), "finished cell")
    basis = f"from {cells}, {len(running)} at once"
    return Estimate(seconds, basis)


def _rest(work: Work, whole: float) -> float:
    """What a running cell still needs: by its steps where they are known, else by the clock."""
    left = whole * (1 - work.done) if work.done is not None else whole - work.seconds
    return max(left, 0.0)
