"""From the blocks of a design to its arms: united, each once, less what is excluded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from orchestrator.sweep.axes import Axis, Label, Level, text_of
from orchestrator.sweep.conditions import Choice, resolved, scope_of
from orchestrator.sweep.design import Block, Run
from orchestrator.sweep.document import KeyPath
from orchestrator.sweep.expr import Value
from orchestrator.sweep.rules import Excluded, Rule, truth, value_of
from orchestrator.sweep.spec import Sweep
from orchestrator.sweep.tune import Values


@dataclass(frozen=True)
class Arm:
    """One combination of levels: one for each axis, in the order of the axes."""

    levels: tuple[Level, ...]
    axes: dict[str, Label]
    label: str  # "norm=gn batch_per_gpu=2"
    seeds: tuple[int, ...]
    blocks: Mapping[str, tuple[int, ...]]  # the blocks that ask for it, each with its seeds
    name: str | None = None
    tuned: Values = field(default_factory=dict)  # else the defaults of `tune`


Fill = Callable[[Arm], Iterable[Level]]
"""From an arm in which levels are unset to the same arm's levels with those of the base config."""


def arms_of(sweep: Sweep, fill: Fill) -> tuple[list[Arm], list[Excluded]]:
    """The arms of every block, each once, in the order of the blocks; and those left out.

    Raises SweepError for a rule that matches nothing or the baseline.
    """
    found: dict[tuple[str, ...], Arm] = {}
    for block in sweep.design:
        for run in block.runs:
            levels = _levels(sweep, run, block, fill)
            key = tuple(text_of(level.label) for level in levels)
            before = found.get(key)
            if before is None:
                found[key] = _arm(sweep.axes, levels, {block.id: block.seeds}, run.name)
            elif block.id not in before.blocks or run.name:
                blocks = {**before.blocks, block.id: block.seeds}
                found[key] = _arm(sweep.axes, levels, blocks, before.name or run.name)
    arms = [_seeded(sweep, arm) for arm in found.values()]
    return _split(sweep, arms)


def arm_with(sweep: Sweep, named: Mapping[str, Level], at: KeyPath, seed: int, fill: Fill) -> Arm:
    """The arm of these levels that has the baseline's for all other axes, in the design or not;
    `at` is the key that asks for it. Raises SweepError where a rule leaves it out."""
    block = Block(at[0], at[0], at, (seed,), (Run(named, at),))
    arm = _arm(sweep.axes, _levels(sweep, block.runs[0], block, fill), {block.id: block.seeds})
    for rule in sweep.rules:
        if _matches(sweep, rule, arm):
            raise sweep.document.error(
                at, f"the arm {arm.label} is left out by the rule {rule.expr.text!r}"
            )
    return arm


def _levels(sweep: Sweep, run: Run, block: Block, fill: Fill) -> tuple[Level, ...]:
    named: Choice = {
        axis.name: run.levels.get(axis.name, sweep.defaults[axis.name]) for axis in sweep.axes
    }
    chosen = resolved(sweep.document, sweep.axes, sweep.conditional, named)
    levels = tuple(chosen[axis.name] or axis.unset for axis in sweep.axes)
    if run.strict:
        for axis, level in zip(sweep.axes, levels, strict=True):
            if level is axis.absent and axis.name in run.levels:
                assert axis.when is not None
                raise sweep.document.error(
                    (*run.at, axis.name),
                    f"this arm has no axis {axis.name}: {axis.when.text!r} does not hold",
                )
    if any(level is axis.unset for axis, level in zip(sweep.axes, levels, strict=True)):
        return tuple(fill(_arm(sweep.axes, levels, {block.id: block.seeds[:1]})))
    return levels


def _arm(
    axes: Sequence[Axis],
    levels: tuple[Level, ...],
    blocks: Mapping[str, tuple[int, ...]],
    name: str | None = None,
) -> Arm:
    labels = {axis.name: level.label for axis, level in zip(axes, levels, strict=True)}
    label = " ".join(f"{axis}={text_of(level)}" for axis, level in labels.items())
    seeds = next(iter(blocks.values()))
    return Arm(levels, labels, label, seeds, blocks, name)


def _seeded(sweep: Sweep, arm: Arm) -> Arm:
    if len(arm.blocks) == 1:
        return arm
    wanted = {seed for seeds in arm.blocks.values() for seed in seeds}
    seeds = tuple(seed for seed in sweep.seeds if seed in wanted)
    return Arm(arm.levels, arm.axes, arm.label, seeds, arm.blocks, arm.name)


# ---------------------------------------------------------------- exclude


def _split(sweep: Sweep, arms: list[Arm]) -> tuple[list[Arm], list[Excluded]]:
    if not sweep.rules:
        return arms, []
    kept, excluded = [], []
    used: set[Rule] = set()
    for arm in arms:
        reasons = [rule for rule in sweep.rules if _matches(sweep, rule, arm)]
        used |= set(reasons)
        if reasons and arm.axes == sweep.baseline:
            rule = reasons[0]
            raise sweep.document.error(
                (*rule.at, "if"), f"{rule.expr.text!r} leaves out the baseline ({arm.label})"
            )
        if reasons:
            why = "; ".join(dict.fromkeys(rule.why for rule in reasons))
            excluded.append(Excluded(arm.label, arm.axes, tuple(arm.blocks), why))
        else:
            kept.append(arm)
    for rule in sweep.rules:
        if rule not in used:
            raise sweep.document.error(
                (*rule.at, "if"), f"{rule.expr.text!r} matches none of {len(arms)} arms"
            )
    if not kept:
        raise sweep.document.error(("exclude",), "leaves no arm")
    return kept, excluded


def _matches(sweep: Sweep, rule: Rule, arm: Arm) -> bool:
    scope = scope_for(sweep.axes, arm)
    for line in rule.lines:
        scope[line.name] = value_of(sweep.document, line.at, line.expr, scope, arm.label)
    return truth(sweep.document, (*rule.at, "if"), rule.expr, scope, arm.label)


def scope_for(axes: Sequence[Axis], arm: Arm) -> dict[str, Value]:
    """What expressions read of an arm before any line is computed; without its seed."""
    scope: dict[str, Value] = {}
    for axis, level in zip(axes, arm.levels, strict=True):
        scope |= scope_of(axis, level)
    return scope
