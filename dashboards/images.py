"""Arms that have one seed in common with the baseline: how much their difference depends on which
images were evaluated. Of seeds it says nothing, and so it is no verdict; see dashboards.resample.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dashboards.resample import COVERS, DRAWS, LEVEL, Matches, paired
from dashboards.study import Arm, Cell, Study
from dashboards.wording import Conclusion, Wording


@dataclass(frozen=True)
class OverImages:
    """`difference` is arm - baseline in mAP, with its percentile interval; None, and `why`, where
    what the detections matched is not on record."""

    arm: str
    seed: int
    images: int | None = None
    draws: int | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = LEVEL
    covers: str = COVERS
    why: str = ""


def over_images(
    study: Study, matches: Callable[[Cell], Matches], draws: int = DRAWS
) -> list[OverImages]:
    """`matches` reads those of a cell, or raises ValueError."""
    read: dict[str, Matches] = {}

    def once(cell: Cell) -> Matches:
        """The baseline's are asked for again and again."""
        if cell.id not in read:
            read[cell.id] = matches(cell)
        return read[cell.id]

    return [_drawn(arm, first, second, once, draws) for arm, first, second in single(study)]


def single(study: Study) -> Iterator[tuple[Arm, Cell, Cell]]:
    """The arms with one seed in common with the baseline, with the baseline's cell and their
    own."""
    if study.baseline is None:
        return
    base = {c.seed: c for c in study.arm(study.baseline).cells if c.outcome == "converged"}
    for arm in study.arms:
        cells = [c for c in arm.cells if c.outcome == "converged" and c.seed in base]
        if arm.key != study.baseline and len(cells) == 1:
            yield arm, base[cells[0].seed], cells[0]


def image_conclusions(study: Study, found: Iterable[OverImages]) -> list[Conclusion]:
    say = Wording(study)
    out = []
    for one in found:
        name = say.name(one.arm)
        if one.difference is None:
            text = f"{name}: nothing can be said over images, as {one.why}."
            deltas: tuple[float, ...] = ()
        else:
            text = (
                f"{name}: mAP {one.difference:+.3f} to the baseline in seed {one.seed}, "
                f"{one.low:+.3f} to {one.high:+.3f} over {one.images} images drawn anew "
                f"({100 * (1 - one.level):.0f} %): this {one.covers}, and is no verdict."
            )
            deltas = (one.difference,)
        out.append(Conclusion(text, "images", (one.arm,), "mAP", "single run", deltas))
    return out


def _drawn(
    arm: Arm, first: Cell, second: Cell, matches: Callable[[Cell], Matches], draws: int
) -> OverImages:
    try:
        found = paired(matches(first), matches(second), draws)
    except ValueError as error:
        return OverImages(arm.key, second.seed, why=str(error))
    return OverImages(
        arm.key, second.seed, found.images, draws, found.difference, found.low, found.high
    )
