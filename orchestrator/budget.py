"""What a sweep may cost: the key `budget` of a sweep file, and the arguments that go before it.

Pure; nothing of it is part of a cell's id."""

from __future__ import annotations

from dataclasses import dataclass, replace

from orchestrator.document import Document, SweepError


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


def check_gang(budget: Budget, label: str, gpus: float, document: Document) -> None:
    """Raise SweepError for a cell that alone takes more GPUs than the sweep may hold at once: it
    would wait for ever."""
    if budget.max_gpus is not None and gpus > budget.max_gpus:
        raise document.error(
            ("budget", "max_gpus"),
            f"cell {label} takes {gpus:g} GPUs, and at most {budget.max_gpus} may be held at once; "
            "raise it (--max-gpus), or leave the cell out (--only)",
        )


def refused(question: str) -> SweepError:
    """There is nobody to ask."""
    return SweepError(
        f"{question}, and there is no terminal to ask on: nothing was started; --yes starts it, "
        "--gpu-hours H bounds it, budget.confirm_gpu_hours says from which cost on it asks"
    )
