"""From a sweep to its cells: a pure function.

The order is seed by seed, and within a seed the order of the design: when the first seed is done,
there is a whole table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from detcore.config import Config
from orchestrator.arms import Arm, arms_of
from orchestrator.axes import Label, text_of
from orchestrator.conditions import hint
from orchestrator.expr import Expr, ExprError, evaluate, parse
from orchestrator.identity import Texts, arm_key
from orchestrator.resolve import Resources, Shared, config_of, levels_of_base
from orchestrator.rules import Excluded
from orchestrator.spec import Sweep, SweepError


@dataclass(frozen=True)
class Cell:
    """One arm with one seed: the unit that is trained, hashed, cached and retried."""

    label: str  # "norm=gn batch_per_gpu=2 seed=0"
    arm_label: str  # "norm=gn batch_per_gpu=2"
    axes: dict[str, Label]  # `-` for an axis that the arm does not have
    seed: int
    config: Config
    resources: Resources
    ref: str | None = None  # the row of another report that this arm repeats
    blocks: tuple[str, ...] = ()  # the blocks of the design that ask for this cell
    name: str | None = None  # what the sweep calls this arm


@dataclass(frozen=True)
class Expansion:
    """What a sweep comes to: its cells, and the arms of its design that a rule leaves out."""

    cells: list[Cell] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)


def expand(sweep: Sweep) -> list[Cell]:
    """The cells of `sweep`.

    Raises SweepError for a value that no config takes, and for two arms that are the same run.
    """
    return expansion(sweep).cells


def expansion(sweep: Sweep) -> Expansion:
    """The cells of `sweep` and what is left out of it; raises SweepError."""
    shared = Shared(sweep)
    arms, excluded = arms_of(sweep, lambda arm: levels_of_base(sweep, shared, arm))
    by_seed: dict[int, list[Cell]] = {seed: [] for seed in sweep.seeds}
    firsts = []
    for arm in arms:
        cells = list(_cells(sweep, shared, arm))
        firsts.append(cells[0])
        for cell in cells:
            by_seed[cell.seed].append(cell)
    _check_effect(sweep, arms, firsts)
    return Expansion([cell for cells in by_seed.values() for cell in cells], excluded)


def filter_cells(cells: Sequence[Cell], only: str) -> list[Cell]:
    """The cells for which `only`, an expression over axes and seed, is true.

    Raises SweepError when there are none.
    """
    if not cells:
        return []
    try:
        expr = parse(only, {*cells[0].axes, "seed"})
        chosen = [cell for cell in cells if _wanted(expr, cell)]
    except ExprError as error:
        raise SweepError(f"--only: {error}") from None
    if not chosen:
        levels = {n: dict.fromkeys(text_of(c.axes[n]) for c in cells) for n in cells[0].axes}
        have = "; ".join(f"{name}: {', '.join(labels)}" for name, labels in levels.items())
        raise SweepError(f"--only: {only!r} matches none of {len(cells)} cells; choices: {have}")
    return chosen


def _wanted(expr: Expr, cell: Cell) -> bool:
    scope = {**cell.axes, "seed": cell.seed}
    try:
        verdict = evaluate(expr, scope)
    except ExprError as error:
        raise ExprError(f"{error}{hint(expr.names, scope)}") from None
    if not isinstance(verdict, bool):
        raise ExprError(f"must be true or false for every cell, is {verdict!r}")
    return verdict


def _check_effect(sweep: Sweep, arms: Sequence[Arm], cells: Sequence[Cell]) -> None:
    """Two arms that resolve to one config would be trained once and shown as two findings."""
    first: dict[str, int] = {}
    texts = Texts()
    for i, cell in enumerate(cells):
        j = first.setdefault(arm_key(cell.config, texts), i)
        if j == i:
            continue
        differing = [
            (axis.name, a, b)
            for axis, a, b in zip(sweep.axes, arms[j].levels, arms[i].levels, strict=True)
            if a.label != b.label
        ]
        what = " and ".join(
            f"axis {name}, levels {text_of(a.label)!r} and {text_of(b.label)!r}"
            for name, a, b in differing
        )
        raise sweep.document.error(
            ("axes", differing[0][0]),
            f"{what}: the arms {cells[j].arm_label!r} and {cell.arm_label!r} are the same run; "
            "what `runtime` and `resources` say does not count",
        )


# ---------------------------------------------------------------- one arm


def _cells(sweep: Sweep, shared: Shared, arm: Arm) -> Iterator[Cell]:
    """The cells of one arm. Apart from the seed they are the same, unless an expression reads
    it."""
    row = sweep.reference.of(list(arm.axes.values()))
    made = None
    for seed in arm.seeds:
        if made is None or shared.by_seed:
            made = config_of(sweep, shared, arm, seed)
        config, resources = made
        yield Cell(
            label=f"{arm.label} seed={seed}",
            arm_label=arm.label,
            axes=arm.axes,
            seed=seed,
            config=config if config.seed == seed else replace(config, seed=seed),
            resources=resources,
            ref=row.id if row else None,
            blocks=tuple(block for block, seeds in arm.blocks.items() if seed in seeds),
            name=arm.name,
        )
