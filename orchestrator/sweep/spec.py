"""Reading a sweep file: from YAML, a profile and arguments to a checked `Sweep`.

What every key means is in sweeps/README.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from detcore.config import Config, ConfigError, from_dict, nearest
from detcore.result import METRICS
from orchestrator.sweep.axes import Axis, Label, Write, exprs_in, read_axes, read_set
from orchestrator.sweep.budget import Budget
from orchestrator.sweep.conditions import (
    Choice,
    conditional_axes,
    read_baseline,
    read_conditions,
    resolved,
)
from orchestrator.sweep.derive import Line, names_of, read_lines, read_resource
from orchestrator.sweep.design import Block, read_design
from orchestrator.sweep.document import KEYS, Document, KeyPath, SweepError, read_document
from orchestrator.sweep.failure import Failure, read_failure
from orchestrator.sweep.notify import Notify, read_notify
from orchestrator.sweep.overrides import check_collisions, is_replaced, with_arguments, with_profile
from orchestrator.sweep.reference import Reference, read_reference
from orchestrator.sweep.rules import Claim, Rule, read_claims, read_rules
from orchestrator.sweep.seeds import Seeds, read_seeds
from orchestrator.sweep.tune import Tune, check_tune, read_tune

__all__ = ["Failure", "Metric", "Sweep", "SweepError", "load_sweep"]


@dataclass(frozen=True)
class Metric:
    """What the table compares."""

    name: str = "mAP"
    goal: Literal["max", "min"] = "max"
    min_effect: float | None = None  # the smallest difference that matters
    variances: Literal["auto", "equal", "unequal"] = "auto"  # of arms: see dashboards.inference

    def __post_init__(self) -> None:
        if self.min_effect is not None and not 0 < self.min_effect < 0.2:
            raise ValueError(
                f"min_effect must be above 0 and below 0.2: metrics are fractions of 1, 0.3 points "
                f"of AP are 0.003; is {self.min_effect:g}"
            )


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read and checked, with one profile chosen.

    `orchestrator.sweep.expand.expand` makes its cells.
    """

    file: Path
    profile: str | None
    name: str
    question: str
    base: Config
    axes: tuple[Axis, ...]
    conditional: tuple[Axis, ...]  # the axes with a `when`, each after those that it reads
    baseline: dict[str, Label]  # axis name -> label, every axis, `-` for one it does not have
    defaults: Choice  # what `baseline` names: the level of an axis that a block leaves out
    reference: Reference  # rows of another report that arms repeat
    metric: Metric
    seeds: tuple[int, ...]
    replicates: Seeds  # `seeds`, and those that an arm may get beyond
    tune: Tune | None
    failure: Failure
    budget: Budget  # as the file has it; the command line may go before it
    notify: Notify | None  # who is told how it ended
    design: tuple[Block, ...]
    rules: tuple[Rule, ...]  # `exclude`
    claims: tuple[Claim, ...]  # `assert`
    lines: tuple[Line, ...]  # `derive` and `workers`, in an order in which they can be computed
    cpus_per_worker: Line
    gpus_per_worker: Line
    writes: tuple[Write, ...]  # `set`, less what the command line replaced
    overrides: tuple[Write, ...]  # config settings of the command line, in its order
    document: Document  # file, profile and arguments laid together; knows the line of every key


def load_sweep(
    path: Path | str,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    data: Path | str | None = None,
) -> Sweep:
    """Read the sweep at `path`, lay `profile` over it, then the `--set` arguments and the data.

    An argument whose first key is a key of sweep files changes the sweep (`seeds=[0]`,
    `axes.norm.values=[gn]`); any other is a config path, set in every cell. `data` is a folder in
    COCO format that takes the place of `data.source`. Raises SweepError.
    """
    file = Path(path)
    document = with_profile(read_document(file), profile)
    document, config_writes = with_arguments(document, overrides, Path(data) if data else None)
    _check_keys(document)
    axes = read_axes(document, lambda at, given: _read_base(document, file, at, given))
    axes = read_conditions(document, axes)
    conditional = conditional_axes(document, axes)
    base = _base(document, file)
    defaults, baseline = read_baseline(document, axes, conditional)
    seeds = read_seeds(document)
    _check_workers(document, axes, base)
    metric = _metric(document)
    tune = read_tune(document, axes, [*seeds.listed, *seeds.more], metric.name, metric.goal)
    nuisance = set(tune.nuisance if tune else ())
    lines = read_lines(document, axes, base.train.workers, nuisance)
    known = names_of(axes) | nuisance | {line.name for line in lines}
    writes = read_set(document, known)
    check_collisions(document, axes, writes, config_writes)
    sweep = Sweep(
        file=file,
        profile=profile,
        name=_name(document),
        question=_question(document),
        base=base,
        axes=axes,
        conditional=conditional,
        baseline={name: level.label for name, level in baseline.items() if level},
        defaults=defaults,
        reference=read_reference(
            document,
            file,
            axes,
            lambda changed: resolved(document, axes, conditional, {**defaults, **changed}),
        ),
        metric=metric,
        seeds=seeds.listed,
        replicates=seeds,
        tune=tune,
        failure=read_failure(document),
        budget=_section(document, Budget, "budget"),
        notify=read_notify(document),
        design=read_design(document, axes, baseline, seeds.listed),
        rules=read_rules(document, lines, known, nuisance),
        claims=read_claims(document, known),
        lines=lines,
        cpus_per_worker=read_resource(document, "cpus_per_worker", 1, known),
        gpus_per_worker=read_resource(document, "gpus_per_worker", 0, known),
        writes=tuple(w for w in writes if not is_replaced(w, config_writes)),
        overrides=config_writes,
        document=document,
    )
    if tune:
        read = {name for w in sweep.writes for expr in exprs_in(w.value) for name in expr.names}
        resources = (sweep.cpus_per_worker, sweep.gpus_per_worker)
        check_tune(document, tune, lines, sweep.rules, resources, read)
    return sweep


def pointed(error: ConfigError, document: Document) -> KeyPath:
    """The key an error is about: a component's own check names the field it refuses first."""
    full = (*error.path, *error.problem.split()[0].split("."))
    return full if full in document.origins else error.path


# ---------------------------------------------------------------- the parts


def _check_keys(document: Document) -> None:
    for key in document.data:
        if key not in KEYS:
            hint = nearest(str(key), list(KEYS))
            raise document.error((str(key),), f"unknown key {key!r}; {hint}")
    version = document.data.get("version")
    if version != 1 or isinstance(version, bool):
        problem = "is missing" if version is None else f"unknown version {version!r}"
        raise document.error(("version",), f"{problem}; write version: 1")


def _question(document: Document) -> str:
    value = document.data.get("question", "")
    if not isinstance(value, str):
        raise document.error(("question",), f"must be text, is {value!r}")
    return " ".join(value.split())


def _name(document: Document) -> str:
    name = document.data.get("name")
    if name is None:
        raise document.error(("name",), "is missing; it names the MLflow experiment")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", name):
        raise document.error(
            ("name",), f"must be letters, digits, _ - and . (at most 100), is {name!r}"
        )
    return name


def _base(document: Document, file: Path) -> Config:
    if "base" not in document.data:
        return Config()
    return _read_base(document, file, ("base",), document.data["base"])


def _check_workers(document: Document, axes: Sequence[Axis], base: Config) -> None:
    """Without `resources.workers` every cell has the workers of the sweep's base."""
    resources = document.data.get("resources", {})
    if isinstance(resources, dict) and "workers" in resources:
        return
    for level in (level for axis in axes for level in axis.levels if level.base):
        assert level.base is not None
        if level.base.train.workers != base.train.workers:
            raise document.error(
                (*level.at, "base"),
                f"this base has train.workers {level.base.train.workers} and the sweep's base "
                f"{base.train.workers}: say in resources.workers what a cell shall have",
            )


def _read_base(document: Document, file: Path, at: KeyPath, given: Any) -> Config:
    if not isinstance(given, str):
        raise document.error(at, f"must be the path of a config file, is {given!r}")
    base = file.parent / given
    if not base.is_file():
        have = sorted(p.name for p in base.parent.glob("*.y*ml")) if base.parent.is_dir() else []
        hint = f"; {nearest(base.name, have)}" if have else ""
        raise document.error(at, f"no such file: {base}{hint}")
    read = read_document(base)
    try:
        return from_dict(Config, read.data)
    except ConfigError as error:
        raise read.error(pointed(error, read), error.problem) from None


def _section(document: Document, cls: type[Any], key: str) -> Any:
    try:
        return from_dict(cls, document.data.get(key, {}), (key,))
    except ConfigError as error:
        raise document.error(pointed(error, document), error.problem) from None


def _metric(document: Document) -> Metric:
    metric: Metric = _section(document, Metric, "metric")
    if metric.name not in METRICS:
        raise document.error(
            ("metric", "name"),
            f"unknown metric {metric.name!r}; {nearest(metric.name, list(METRICS))}",
        )
    return metric
