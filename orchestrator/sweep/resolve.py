"""From one arm under one seed to its config: what the base says, then what axes, `set`, the command
line and `resources` write over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detcore.config import Config, ConfigError, Memo, from_dict, set_path, to_dict
from orchestrator.sweep.arms import Arm, scope_for
from orchestrator.sweep.axes import Level, Write, exprs_in, filled, tidy
from orchestrator.sweep.derive import reads_seed
from orchestrator.sweep.explain import explained
from orchestrator.sweep.expr import ExprError, Value
from orchestrator.sweep.overrides import check_conditional, is_data
from orchestrator.sweep.rules import check_claims, failed, value_of
from orchestrator.sweep.spec import Sweep


@dataclass(frozen=True)
class Resources:
    """What one cell needs at once, all of it reserved before it starts."""

    workers: int = 1
    cpus_per_worker: float = 1
    gpus_per_worker: float = 0

    @property
    def cpus(self) -> float:
        """Of all its workers."""
        return self.workers * self.cpus_per_worker

    @property
    def gpus(self) -> float:
        """Of all its workers."""
        return self.workers * self.gpus_per_worker


class Shared:
    """What the cells of a sweep have in common, so that it is done once."""

    def __init__(self, sweep: Sweep) -> None:
        levels = (level for axis in sweep.axes for level in axis.levels)
        bases = [sweep.base, *(level.base for level in levels if level.base)]
        self.bases: dict[int, Mapping[str, Any]] = {id(base): to_dict(base) for base in bases}
        self.parts: Memo = {}  # settings that many cells share, as `from_dict` made them
        self.interned: dict[tuple[str, str], Any] = {}
        computed = [line.expr for line in (sweep.cpus_per_worker, sweep.gpus_per_worker)]
        computed += [claim.expr for claim in sweep.claims]
        computed += [line.expr for line in sweep.lines]
        computed += [expr for write in sweep.writes for expr in exprs_in(write.value)]
        self.by_seed = any(reads_seed(sweep.lines, expr.names) for expr in computed)

    def alike(self, data: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
        """`data` with equal sections as the same objects, so that each is read and hashed once."""
        return {
            name: part
            if part is base.get(name)
            else self.interned.setdefault((name, repr(part)), part)
            for name, part in data.items()
        }


def config_of(sweep: Sweep, shared: Shared, arm: Arm, seed: int) -> tuple[Config, Resources]:
    """What a cell trains and what it reserves; raises SweepError for a value that no config
    takes."""
    tuned = {**(sweep.tune.default if sweep.tune else {}), **arm.tuned}
    scope = {"seed": seed, **tuned, **scope_for(sweep.axes, arm)}
    for line in sweep.lines:
        scope[line.name] = value_of(sweep.document, line.at, line.expr, scope, arm.label)
    check_claims(sweep.document, sweep.claims, scope, arm.label)
    resources = _resources(sweep, scope, arm.label)
    if len(sweep.conditional) > 1:
        check_conditional(sweep.document, arm.levels)
    writes = [w for level in arm.levels for w in level.writes] + [
        Write(w.path, _filled(sweep, w, scope, arm.label), w.at, w.who) for w in sweep.writes
    ]
    # a component first, then settings inside it; x.kind is as much as x
    writes.sort(key=lambda w: w.path.removesuffix(".kind").count("."))
    writes += sweep.overrides
    writes.append(Write("train.workers", resources.workers, ("resources", "workers"), "resources"))
    base = next((level.base for level in arm.levels if level.base), sweep.base)
    start = shared.bases[id(base)]
    data: Mapping[str, Any] = {**start, "seed": seed}
    for write in writes:
        data = _written(data, write)
    try:
        return from_dict(Config, shared.alike(data, start), memo=shared.parts), resources
    except ConfigError as error:
        raise explained(sweep, writes, error, arm) from None


def levels_of_base(sweep: Sweep, shared: Shared, arm: Arm) -> Iterator[Level]:
    """The levels of `arm`; for an axis without one the level that its config has anyway, else
    none."""
    config, _ = config_of(sweep, shared, arm, arm.seeds[0])
    for axis, level in zip(sweep.axes, arm.levels, strict=True):
        if level is not axis.unset:
            yield level
            continue
        same = [v for v in axis.levels if v.writes and with_level(config, v) == config]
        yield same[0] if same else level


def with_level(config: Config, level: Level) -> Config | None:
    """`config` with what `level` writes; None where that is no config."""
    data = to_dict(config)
    for write in level.writes:
        data = _written(data, write)
    try:
        return from_dict(Config, data)
    except ConfigError:
        return None


def _written(data: Mapping[str, Any], write: Write) -> dict[str, Any]:
    """`gn` is short for `{kind: gn}`: over a `gn` of the base it keeps that one's settings."""
    if is_data(write):
        return {**data, "data": {**data["data"], "source": write.value}}
    value = write.value
    keys = write.path.split(".")
    here: Any = data
    for key in keys:
        here = here.get(key, {}) if isinstance(here, dict) else {}
    if isinstance(value, str) and isinstance(here, dict) and "kind" in here:
        value = {"kind": value}
    if isinstance(value, dict) or keys[-1] == "kind":
        return set_path(data, write.path, value)
    return _put(data, keys, value) or set_path(data, write.path, value)


def _put(data: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any] | None:
    """`set_path` for a value that is no mapping, which is most of them, and quicker; None where a
    key on the way is no mapping yet."""
    out = here = dict(data)
    for key in keys[:-1]:
        below = here.get(key)
        if not isinstance(below, dict):
            return None
        here[key] = below = dict(below)
        here = below
    here[keys[-1]] = value
    return out


def _filled(sweep: Sweep, write: Write, scope: Mapping[str, Value], arm_label: str) -> Any:
    try:
        return filled(write.value, scope)
    except ExprError as error:
        expr = next(exprs_in(write.value))
        raise failed(sweep.document, write.at, error, expr, scope, arm_label) from None


def _resources(sweep: Sweep, scope: Mapping[str, Value], arm_label: str) -> Resources:
    numbers = {"workers": tidy(scope["workers"])}
    for line in (sweep.cpus_per_worker, sweep.gpus_per_worker):
        numbers[line.name] = tidy(value_of(sweep.document, line.at, line.expr, scope, arm_label))
    for key, value in numbers.items():
        whole = key == "workers"
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            what = "a whole number" if whole else "a number"
            raise sweep.document.error(
                ("resources", key), f"must be {what}, is {value!r} (arm {arm_label})"
            )
        if value < (1 if whole else 0):
            raise sweep.document.error(
                ("resources", key),
                f"must be at least {1 if whole else 0}, is {value} (arm {arm_label})",
            )
    return Resources(numbers["workers"], numbers["cpus_per_worker"], numbers["gpus_per_worker"])
