"""Reading a sweep file: from YAML, a profile and command-line overrides to a checked `Sweep`. See sweeps/README.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from detcore.config import Config, ConfigError, check_path, from_dict, nearest
from detcore.result import METRICS
from orchestrator.axes import (
    Axis,
    Label,
    Write,
    check_config_path,
    check_name,
    leaves,
    read_axes,
    read_set,
)
from orchestrator.document import (
    Document,
    KeyPath,
    SweepError,
    lay,
    part,
    read_document,
    split_argument,
)
from orchestrator.expr import Expr, ExprError, parse

__all__ = ["Failure", "Line", "Metric", "Sweep", "SweepError", "load_sweep"]

KEYS = (
    "version", "name", "question", "base", "set", "axes", "baseline", "metric", "derive",
    "design", "seeds", "resources", "failure", "profiles",
)  # fmt: skip
COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Metric:
    """What the table compares."""

    name: str = "mAP"
    goal: Literal["max", "min"] = "max"


@dataclass(frozen=True)
class Failure:
    """What is done about faults (a diverged or stalled cell is a result, never retried)."""

    hang_timeout_s: float = 600.0  # a gang that reports no step for this long is ended
    crash_retries: int = 1  # further attempts after a crash or a hang

    def __post_init__(self) -> None:
        if self.hang_timeout_s <= 0:
            raise ValueError(f"hang_timeout_s must be positive, is {self.hang_timeout_s}")
        if self.crash_retries < 0:
            raise ValueError(f"crash_retries must not be negative, is {self.crash_retries}")


@dataclass(frozen=True)
class Line:
    """A named expression: a line of `derive` or of `resources`."""

    name: str
    expr: Expr
    at: KeyPath


@dataclass(frozen=True)
class Sweep:
    """A sweep file, read and checked, one profile chosen. `orchestrator.expand.expand` makes its cells."""

    file: Path
    profile: str | None
    name: str
    question: str
    base: Config
    axes: tuple[Axis, ...]
    baseline: dict[str, Label]  # axis name -> label, every axis
    metric: Metric
    seeds: tuple[int, ...]
    failure: Failure
    design: tuple[tuple[str, ...], ...]  # blocks; each the axes of one full factorial
    lines: tuple[Line, ...]  # `derive` and `workers`, in an order in which they can be computed
    cpus_per_worker: Line
    gpus_per_worker: Line
    writes: tuple[Write, ...]  # `set`, less what the command line replaced
    overrides: tuple[Write, ...]  # config settings of the command line, in its order
    document: (
        Document  # the file with profile and overrides laid over it; knows the line of every key
    )


def load_sweep(
    path: Path | str,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    data: Path | str | None = None,
) -> Sweep:
    """Read the sweep at `path` with `profile` laid over it, then the `--set` arguments, then the user's data folder.

    An argument whose first key is a key of sweep files changes the sweep (`seeds=[0]`, `axes.norm.values=[gn]`); any other is
    a config path set in every cell. Raises SweepError.
    """
    file = Path(path)
    document = _with_profile(read_document(file), profile)
    arguments = [(a, *split_argument(a)) for a in overrides]
    for argument, key, value in arguments:
        if key.split(".")[0] in KEYS:
            document = _override(document, argument, key, value)
    config_writes = _config_overrides(document, [a for a in arguments if not _of_sweep(a[1])])
    if data is not None:
        config_writes = (_data_folder(document, Path(data)), *config_writes)
    _check_keys(document)
    axes = read_axes(document)
    lines = _lines(document, axes)
    known = _names(axes) | {line.name for line in lines}
    writes = read_set(document, known)
    _check_collisions(document, axes, writes, config_writes)
    resources = document.data.get("resources", {})
    return Sweep(
        file=file,
        profile=profile,
        name=_name(document),
        question=_text(document, "question", ""),
        base=_base(document, file),
        axes=axes,
        baseline=_baseline(document, axes),
        metric=_metric(document),
        seeds=_seeds(document),
        failure=_section(document, Failure, "failure"),
        design=_design(document, axes),
        lines=lines,
        cpus_per_worker=_resource(document, resources, "cpus_per_worker", 1, known),
        gpus_per_worker=_resource(document, resources, "gpus_per_worker", 0, known),
        writes=tuple(w for w in writes if not _replaced(w, config_writes)),
        overrides=config_writes,
        document=document,
    )


# ---------------------------------------------------------------- profile, command line


def _with_profile(document: Document, profile: str | None) -> Document:
    profiles = document.data.get("profiles", {})
    if not isinstance(profiles, dict):
        raise document.error(("profiles",), "must map names to parts of a sweep")
    for name, body in profiles.items():
        if not isinstance(body, dict):
            raise document.error(("profiles", str(name)), f"must be a mapping, is {body!r}")
        for key in body:
            if key in ("version", "name", "profiles") or key not in KEYS:
                choices = [k for k in KEYS if k not in ("version", "name", "profiles")]
                raise document.error(
                    ("profiles", str(name), str(key)),
                    f"{key!r} cannot stand in a profile; {nearest(str(key), choices)}",
                )
    if profile is not None and profile not in profiles:
        have = nearest(profile, [str(p) for p in profiles]) if profiles else "the file has none"
        raise SweepError(f"{document.where(('profiles',))}: unknown profile {profile!r}; {have}")
    data = {k: v for k, v in document.data.items() if k != "profiles"}
    plain = Document(data, document.origins)
    return plain if profile is None else lay(plain, part(document, ("profiles", profile)))


def _of_sweep(key: str) -> bool:
    return key.split(".")[0] in KEYS


def _override(document: Document, argument: str, key: str, value: Any) -> Document:
    """One `--set` that changes the sweep itself."""
    words = key.split(".")
    keys = ["set", ".".join(words[1:])] if words[0] == "set" and len(words) > 1 else words
    complaint = f"--set {argument}: "
    if keys[0] in ("profiles", "version"):
        raise SweepError(f"{complaint}{keys[0]} cannot be set here")
    if keys[0] in ("axes", "derive", "baseline") and len(keys) > 1:
        have = [str(k) for k in document.data.get(keys[0], {}) or {}]
        if keys[1] not in have:
            raise SweepError(
                f"{complaint}the sweep has no {'.'.join(keys[:2])}; {nearest(keys[1], have)}"
            )
    if keys[0] == "axes" and len(keys) > 3:
        raise SweepError(f"{complaint}give {'.'.join(keys[:3])} whole")
    nested: Any = value
    for word in reversed(keys):
        nested = {word: nested}
    spots = [tuple(keys[:end]) for end in range(len(keys) + 1)]
    return lay(document, Document(nested, dict.fromkeys(spots, f"--set {argument}")))


def _config_overrides(
    document: Document, arguments: list[tuple[str, str, Any]]
) -> tuple[Write, ...]:
    writes = []
    for argument, key, value in arguments:
        at = (COMMAND_LINE, key)
        document.origins[at] = f"--set {argument}"
        first = key.split(".")[0]
        try:
            check_path(Config, first)
        except ConfigError:
            choices = sorted([*(k for k in KEYS if k not in ("version", "profiles")), *_top()])
            raise SweepError(
                f"--set {argument}: unknown key {first!r}; {nearest(first, choices)}"
            ) from None
        try:
            check_config_path(document, at, key)
        except SweepError as error:
            text = str(error).replace(f"{COMMAND_LINE}.{key}: ", "")
            raise SweepError(text) from None
        writes.append(Write(key, value, at, f"--set {argument}"))
    return tuple(writes)


def _top() -> list[str]:
    return [k for k in Config.__dataclass_fields__ if k != "seed"]


def _data_folder(document: Document, folder: Path) -> Write:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "no such folder"
        raise SweepError(f"--data {folder}: {what}")
    at = (COMMAND_LINE, "data.source")
    document.origins[at] = f"--data {folder}"
    source = {"kind": "coco", "root": str(folder.resolve())}
    return Write("data.source", source, at, f"--data {folder}")


def _replaced(write: Write, overrides: Sequence[Write]) -> bool:
    """The command line has the last word over `set`; --data replaces everything about the source."""
    mine = leaves(write.path, write.value)
    for over in overrides:
        if over.who.startswith("--data"):
            if all(leaf == "data.source" or leaf.startswith("data.source.") for leaf in mine):
                return True
        elif mine <= leaves(over.path, over.value):
            return True
    return False


def _check_collisions(
    document: Document, axes: Sequence[Axis], writes: Sequence[Write], overrides: Sequence[Write]
) -> None:
    """No setting is written by two axes, by an axis and `set`, or by an axis and the command line."""
    owner: dict[str, Write] = {}
    for axis in axes:
        mine: dict[str, Write] = {}
        for write in (w for level in axis.levels for w in level.writes):
            for leaf in leaves(write.path, write.value):
                if leaf in owner:
                    raise document.error(
                        write.at, f"{leaf} is written by {owner[leaf].who} and by {write.who}"
                    )
                mine[leaf] = write
        owner |= mine
    for write in (*writes, *overrides):
        for leaf in sorted(leaves(write.path, write.value)):
            below = [p for p in owner if write in overrides and p.startswith(f"{leaf}.")]
            for path in [leaf, *below]:
                if path in owner:
                    who = "this argument" if write in overrides else write.who
                    place = document.where(write.at)
                    key = "" if write in overrides else f"{'.'.join(write.at)}: "
                    raise SweepError(
                        f"{place}: {key}{path} is written by {owner[path].who} and by {who}"
                    )


# ---------------------------------------------------------------- the parts


def _check_keys(document: Document) -> None:
    for key in document.data:
        if key not in KEYS:
            raise document.error(
                (str(key),), f"unknown key {key!r}; {nearest(str(key), list(KEYS))}"
            )
    version = document.data.get("version")
    if version != 1 or isinstance(version, bool):
        problem = "is missing" if version is None else f"unknown version {version!r}"
        raise document.error(("version",), f"{problem}; write version: 1")


def _text(document: Document, key: str, default: str) -> str:
    value = document.data.get(key, default)
    if not isinstance(value, str):
        raise document.error((key,), f"must be text, is {value!r}")
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
    given = document.data.get("base")
    if given is None:
        return Config()
    if not isinstance(given, str):
        raise document.error(("base",), f"must be the path of a config file, is {given!r}")
    base = file.parent / given
    if not base.is_file():
        have = sorted(p.name for p in base.parent.glob("*.y*ml")) if base.parent.is_dir() else []
        hint = f"; {nearest(base.name, have)}" if have else ""
        raise document.error(("base",), f"no such file: {base}{hint}")
    read = read_document(base)
    try:
        return from_dict(Config, read.data)
    except ConfigError as error:
        raise read.error(pointed(error, read), error.problem) from None


def pointed(error: ConfigError, document: Document) -> KeyPath:
    """The key an error is about: a component's own check begins with the name of the field it refuses."""
    full = (*error.path, *error.problem.split()[0].split("."))
    return full if full in document.origins else error.path


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


def _seeds(document: Document) -> tuple[int, ...]:
    seeds = document.data.get("seeds", [0])
    at: KeyPath = ("seeds",)
    if isinstance(seeds, dict):
        for key in seeds:
            if key != "list":
                raise document.error(("seeds", str(key)), f"unknown key {key!r}; choices: list")
        seeds, at = seeds.get("list"), ("seeds", "list")
    if not isinstance(seeds, list) or not seeds:
        raise document.error(at, f"must be a list of whole numbers, is {seeds!r}")
    for i, seed in enumerate(seeds):
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise document.error((*at, str(i)), f"must be a whole number, is {seed!r}")
        if seed < 0:
            raise document.error((*at, str(i)), f"must not be negative, is {seed}")
        if seed in seeds[:i]:
            raise document.error((*at, str(i)), f"seed {seed} is given twice")
    return tuple(seeds)


def _baseline(document: Document, axes: Sequence[Axis]) -> dict[str, Label]:
    given = document.data.get("baseline")
    if given is None:  # the first level of every axis
        return {axis.name: axis.levels[0].label for axis in axes}
    if not isinstance(given, dict):
        raise document.error(("baseline",), f"must map every axis to a level, is {given!r}")
    names = [axis.name for axis in axes]
    for key in given:
        if key not in names:
            raise document.error(
                ("baseline", str(key)), f"unknown axis {key!r}; {nearest(str(key), names)}"
            )
    out: dict[str, Label] = {}
    for axis in axes:
        if axis.name not in given:
            raise document.error(
                ("baseline",), f"axis {axis.name} is missing; choices: {', '.join(axis.labels())}"
            )
        level = axis.level(given[axis.name])
        if level is None:
            raise document.error(
                ("baseline", axis.name),
                f"unknown level {given[axis.name]!r}; {nearest(str(given[axis.name]), axis.labels())}",
            )
        out[axis.name] = level.label
    return out


def _design(document: Document, axes: Sequence[Axis]) -> tuple[tuple[str, ...], ...]:
    names = [axis.name for axis in axes]
    blocks = document.data.get("design", [{"factorial": names}])
    if not isinstance(blocks, list) or not blocks:
        raise document.error(("design",), f"must be a list of blocks, is {blocks!r}")
    out = []
    for i, block in enumerate(blocks):
        at = ("design", str(i))
        if not isinstance(block, dict) or set(block) != {"factorial"}:
            raise document.error(at, f"must be {{factorial: [axes]}}, is {block!r}")
        chosen = block["factorial"]
        if not isinstance(chosen, list) or not chosen:
            raise document.error((*at, "factorial"), f"must be a list of axes, is {chosen!r}")
        for j, name in enumerate(chosen):
            if name not in names:
                raise document.error(
                    (*at, "factorial", str(j)),
                    f"unknown axis {name!r}; {nearest(str(name), names)}",
                )
            if name in chosen[:j]:
                raise document.error((*at, "factorial", str(j)), f"axis {name} is given twice")
        out.append(tuple(chosen))
    return tuple(out)


# ---------------------------------------------------------------- derive and resources


def _names(axes: Sequence[Axis]) -> set[str]:
    return {"seed"} | {n for a in axes for n in (a.name, *a.levels[0].names)}


def _lines(document: Document, axes: Sequence[Axis]) -> tuple[Line, ...]:
    """`derive` and `resources.workers`, sorted so that each is computed after those it reads."""
    derive = document.data.get("derive", {})
    resources = document.data.get("resources", {})
    if not isinstance(derive, dict):
        raise document.error(("derive",), f"must map names to expressions, is {derive!r}")
    _check_names(document, axes, derive)
    _check_resources(document, resources)
    sources: dict[str, tuple[Any, KeyPath]] = {
        name: (value, ("derive", name)) for name, value in derive.items()
    }
    sources["workers"] = (resources.get("workers", 1), ("resources", "workers"))
    known = _names(axes) | set(sources)
    lines = {n: Line(n, _expr(document, at, v, known), at) for n, (v, at) in sources.items()}
    done: dict[str, Line] = {}

    def visit(line: Line, above: tuple[str, ...]) -> None:
        if line.name in above:
            circle = " -> ".join((*above[above.index(line.name) :], line.name))
            raise document.error(line.at, f"needs its own value: {circle}")
        for name in sorted(line.expr.names & set(lines) - set(done)):
            visit(lines[name], (*above, line.name))
        done[line.name] = line

    for line in lines.values():
        if line.name not in done:
            visit(line, ())
    return tuple(done.values())


def _check_names(document: Document, axes: Sequence[Axis], derive: Mapping[Any, Any]) -> None:
    taken: dict[str, str] = {axis.name: f"axis {axis.name}" for axis in axes}
    for axis in axes:
        for name in axis.levels[0].names:
            if name in taken:
                raise document.error(
                    (*axis.levels[0].at, name), f"the name {name!r} is taken by {taken[name]}"
                )
            taken[name] = f"axis {axis.name}"
    for name in derive:
        if name == "workers":
            raise document.error(
                ("derive", "workers"), "the number of workers is written under resources.workers"
            )
        check_name(document, ("derive", str(name)), name)
        if name in taken:
            raise document.error(("derive", name), f"the name {name!r} is taken by {taken[name]}")


def _check_resources(document: Document, resources: Any) -> None:
    keys = ["workers", "cpus_per_worker", "gpus_per_worker"]
    if not isinstance(resources, dict):
        raise document.error(("resources",), f"must be a mapping; choices: {', '.join(keys)}")
    for key in resources:
        if key not in keys:
            raise document.error(
                ("resources", str(key)), f"unknown key {key!r}; {nearest(str(key), keys)}"
            )


def _resource(
    document: Document, resources: Mapping[str, Any], key: str, default: int, known: set[str]
) -> Line:
    at = ("resources", key)
    return Line(key, _expr(document, at, resources.get(key, default), known), at)


def _expr(document: Document, at: KeyPath, value: Any, known: set[str]) -> Expr:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise document.error(at, f"must be a number or an expression, is {value!r}")
    try:
        return parse(str(value), known)
    except ExprError as error:
        raise document.error(at, str(error)) from None
