"""What a sweep may cost: the key `budget` of a sweep file, and the arguments that go before it.

Nothing of it is part of a cell's id."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from orchestrator.sweep.document import Document


@dataclass(frozen=True)
class Budget:
    """None: no limit. When `gpu_hours` is spent, running cells finish and no further one starts."""

    gpu_hours: float | None = None  # of all attempts in all starts of the sweep, faults included
    max_gpus: int | None = None  # held at once
    max_concurrent: int | None = None  # cells at once
    confirm_gpu_hours: float = 100.0  # a start that is forecast to cost more asks first

    def __post_init__(self) -> None:
        if self.gpu_hours is not None and self.gpu_hours <= 0:
            raise ValueError(f"gpu_hours must be positive, is {self.gpu_hours:g}")
        for name in ("max_gpus", "max_concurrent"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, is {value}")
        if self.confirm_gpu_hours < 0:
            raise ValueError(
                f"confirm_gpu_hours must not be negative, is {self.confirm_gpu_hours:g}"
            )

    def over(
        self,
        *,
        gpu_hours: float | None = None,
        max_gpus: int | None = None,
        max_concurrent: int | None = None,
    ) -> Budget:
        """With the numbers that the command line gives in place of the file's."""
        given = {"gpu_hours": gpu_hours, "max_gpus": max_gpus, "max_concurrent": max_concurrent}
        return replace(self, **{name: n for name, n in given.items() if n is not None})  # type: ignore[arg-type]

    def left(self, spent: float) -> float | None:
        """The GPU-hours that may still be spent; None for no limit."""
        return None if self.gpu_hours is None else max(self.gpu_hours - spent, 0.0)

    def asks(self, forecast: float, spent: float = 0.0) -> bool:
        """Whether a start asks first that is forecast to cost so many GPU-hours: more than what is
        left of the budget it cannot cost."""
        left = self.left(spent)
        return (forecast if left is None else min(forecast, left)) > self.confirm_gpu_hours


@dataclass
class Spending:
    """GPU-hours of the sweep: those of earlier starts and stages, and of attempts that run."""

    budget: Budget
    before: float = 0.0
    now: Callable[[], float] = field(default=float)

    @property
    def is_over(self) -> bool:
        return self.budget.left(self.before + self.now()) == 0

    def line(self) -> str:
        return (
            f"the budget of {self.budget.gpu_hours:g} GPU-hours is spent: nothing further was "
            "started; the same command with a larger one goes on (budget.gpu_hours, --gpu-hours)"
        )

    def affords(self, hours: float) -> bool:
        left = self.budget.left(self.before + self.now())
        return left is None or hours <= left


def check_gang(budget: Budget, label: str, gpus: float, document: Document) -> None:
    """Raise SweepError for a cell that alone takes more GPUs than the sweep may hold at once: it
    would wait for ever."""
    if budget.max_gpus is not None and gpus > budget.max_gpus:
        raise document.error(
            ("budget", "max_gpus"),
            f"cell {label} takes {gpus:g} GPUs, and at most {budget.max_gpus} may be held at once; "
            "raise it (--max-gpus), or leave the cell out (--only)",
        )


# ---------------------------------------------------------------- the arguments


def add_budget_arguments(parser: argparse.ArgumentParser) -> None:
    """They go before the file's `budget`."""
    add = parser.add_argument
    add("--gpu-hours", type=_positive, metavar="H", help="start no cell when so many are spent")
    add("--max-gpus", type=at_least_one, metavar="N", help="GPUs held at once, at most")
    add("--max-concurrent", type=at_least_one, metavar="N", help="cells at once, at most")


def budget_of(args: argparse.Namespace, budget: Budget) -> Budget:
    return budget.over(
        gpu_hours=args.gpu_hours, max_gpus=args.max_gpus, max_concurrent=args.max_concurrent
    )


def at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, is {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a positive number, is {text!r}")
    return number
