"""Numbers, counts and names as sentences have them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dashboards.digits import places, written
from dashboards.inference import Comparison, Inference
from dashboards.metrics import describe
from dashboards.outcomes import FAILED, FAULTS, OPEN
from dashboards.study import Arm, Cell, Study

if TYPE_CHECKING:
    from dashboards.effects import Effect
    from dashboards.interactions import Interaction

MANY = 5  # arms of which the same is said one by one; more are told in one sentence
LONG = 60  # characters of a label

Certainty = Literal["established", "failed", "not separable", "open", "single run"]

ORDER: tuple[Certainty, ...] = ("established", "failed", "not separable", "open", "single run")


@dataclass(frozen=True)
class Conclusion:
    """`kind`: `arm`, `arms`, `effect`, `images` or `claim`. `arms`: the keys of the rows that it is
    about. `deltas`: the differences it speaks of, in its order, in the metric's unit."""

    text: str
    kind: str
    arms: tuple[str, ...]
    metric: str
    certainty: Certainty
    deltas: tuple[float, ...] = ()


class Wording:
    """The words for one study and its target metric."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.metric = study.target.name
        described = describe(self.metric)
        self.digits, self.unit = described.digits, f" {described.unit}" if described.unit else ""

    def name(self, key: str) -> str:
        label = cut(self.study.arm(key).label or key)
        return f"The baseline ({label})" if key == self.study.baseline else label

    def names(self, keys: Iterable[str]) -> str:
        """At most MANY by name."""
        names = [self.name(key) for key in keys]
        rest = len(names) - MANY
        return ", ".join(names[:MANY]) + (f" and {rest} more" if rest > 0 else "")

    def evidence(self, c: Comparison, inference: Inference) -> str:
        """`mAP +0.012 (95 % interval +0.004 to +0.020, 3 paired seeds)`"""
        paired = f"{c.pairs} paired {seed(c.pairs)}"
        if c.difference is None or c.low is None or c.high is None:
            return f"{self.metric}, {paired}"
        level, digits = f"{100 * (1 - inference.level):.0f} %", self.places(c)
        interval = f"{self.signed(c.low, digits)} to {self.signed(c.high, digits)}"
        difference = self.signed(c.difference, digits)
        return f"{self.metric} {difference} ({level} interval {interval}, {paired})"

    def unpaired(self, c: Comparison) -> str:
        """`; of 3 seeds, 1 ended oom and in 1 only the baseline did not converge`: the seeds that
        have ended in both and are not in the comparison. Of those of the arm's own failures the
        sentence speaks already."""
        base = {cell.seed: cell for cell in self.study.arm(self.study.baseline or "").cells}
        reasons: Counter[str] = Counter()
        cells = self.study.arm(c.arm).cells
        for cell in cells:
            other = base.get(cell.seed)
            if other is not None and (why := _why_unpaired(cell, other, self.metric)):
                reasons[why] += 1
        told = [why.format(n) for why, n in reasons.items()]
        return f"; of {seeds(len(cells))}, {listed(told)}" if told else ""

    def range(self, cs: list[Comparison]) -> str:
        """` (mAP -0.002 to +0.003, 2 to 3 paired seeds each)`; empty without differences"""
        found = [c.difference for c in cs if c.difference is not None]
        if not found:
            return ""
        least, most = (pick(c.pairs for c in cs) for pick in (min, max))
        count = (
            f"{most} paired {seed(most)}" if least == most else f"{least} to {most} paired seeds"
        )
        digits = places(self.digits, min(found), max(found))
        between = f"{self.signed(min(found), digits)} to {self.signed(max(found), digits)}"
        return f" ({self.metric} {between}, {count} each)"

    def places(self, found: Comparison | Effect | Interaction) -> int:
        """The digits that its difference and interval are printed with."""
        return places(self.digits, found.low, found.high, self.study.target.min_effect)

    def signed(self, value: float, digits: int | None = None) -> str:
        """`+0.012`; what rounds to zero has no sign."""
        digits = self.digits if digits is None else digits
        sign = "+" if round(value, digits) else ""
        return f"{value:{sign}z.{digits}f}{self.unit}"

    def plain(self, value: float) -> str:
        """A size, with digits enough not to be nothing."""
        return f"{value:.{places(self.digits, value, value)}f}{self.unit}"

    @property
    def matters(self) -> str:
        """The smallest difference that does, as the sweep file has it."""
        return f"{written(self.study.target.min_effect or 0.0)}{self.unit}"


def _why_unpaired(cell: Cell, base: Cell, metric: str) -> str:
    """With a place for how many seeds are so; empty for one that is paired, or waits, or did not
    converge."""
    if cell.outcome in (*FAILED, *OPEN) or base.outcome in OPEN:
        return ""
    if cell.outcome in FAULTS:
        return f"{{}} ended {cell.outcome}"
    if base.outcome in FAILED:
        return "in {} only the baseline did not converge"
    if base.outcome in FAULTS:
        return f"in {{}} the baseline ended {base.outcome}"
    if cell.value(metric) is None or base.value(metric) is None:
        return "in {} the metric is not defined"
    return ""


def cut(text: str, size: int = LONG) -> str:
    """One line of at most `size` characters."""
    line = " ".join(text.split())
    return line if len(line) <= size else line[: size - 1].rstrip() + "…"


def share(arm: Arm) -> str:
    """Of its failures: `2 of 3 seeds`, `its one seed (a single run)`, `1 of 2 seeds with a result
    (3 planned)`."""
    settled, planned = sum(cell.settled for cell in arm.cells), len(arm.cells)
    failed = sum(cell.outcome in FAILED for cell in arm.cells)
    if planned == 1:
        return "its one seed (a single run)"
    if settled == planned:
        return f"{failed} of {planned} seeds"
    return f"{failed} of {seeds(settled)} with a result ({planned} planned)"


def did(arm: Arm) -> str:
    """`converged in 3 of 3 seeds`"""
    settled = sum(cell.settled for cell in arm.cells)
    converged = sum(cell.outcome == "converged" for cell in arm.cells)
    return f"converged in {converged} of {seeds(settled)}" if settled else "has no result yet"


def ends(arm: Arm) -> str:
    """Of its failures: `diverged twice at steps 120 and 300, stalled once at step 500`; steps where
    all are known."""
    out = []
    failed = [cell for cell in arm.cells if cell.outcome in FAILED]
    for outcome, n in Counter(cell.outcome for cell in failed).items():
        steps = sorted(c.step for c in failed if c.outcome == outcome and c.step is not None)
        text = f"{outcome} {['', 'once', 'twice'][n] if n < 3 else f'{n} times'}"
        if len(steps) == n:
            text += f" at step{'s' if n > 1 else ''} {listed(map(str, steps))}"
        out.append(text)
    return ", ".join(out)


def listed(texts: Iterable[str]) -> str:
    *most, last = texts
    return f"{', '.join(most)} and {last}" if most else last


def count(number: int, what: str) -> str:
    """`1 pair`, `2 pairs`"""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def seed(number: int) -> str:
    return "seed" if number == 1 else "seeds"


def seeds(number: int) -> str:
    return count(number, "seed")
