"""Which line of the sweep is to blame when a cell's config is refused."""

from __future__ import annotations

from collections.abc import Sequence

from detcore.config import ConfigError
from orchestrator.sweep.arms import Arm
from orchestrator.sweep.axes import Write, text_of
from orchestrator.sweep.overrides import COMMAND_LINE
from orchestrator.sweep.spec import Sweep, SweepError


def explained(sweep: Sweep, writes: Sequence[Write], error: ConfigError, arm: Arm) -> SweepError:
    """The config's complaint, at the line that wrote the value it complains about."""
    write = _culprit(writes, error)
    spot = _spot(sweep, write, error)
    where = "" if write.at[0] == COMMAND_LINE else f"{'.'.join(write.at)}: "
    level = next((v for v in arm.levels if write in v.writes), None)
    what = f"level {text_of(level.label)!r}: " if level else ""
    path = ".".join(error.path)
    path = f"{path}: " if (path and path != write.path) or level else ""
    trap = _trap(sweep, write.value, error.problem)
    return SweepError(f"{spot}: {where}{what}{path}{error.problem}{trap} (arm {arm.label})")


def _trap(sweep: Sweep, value: object, problem: str) -> str:
    """What a person who wrote `value` probably meant."""
    if isinstance(value, bool) and problem.startswith("unknown") and "quotes" not in problem:
        return "; YAML reads on, off, yes and no as true and false: put the word in quotes"
    names = {line.name for line in sweep.lines} | {axis.name for axis in sweep.axes}
    if isinstance(value, str) and value in names and "unknown" not in problem:
        return f"; an expression begins with '=': write ={value}"
    return ""


def _culprit(writes: Sequence[Write], error: ConfigError) -> Write:
    """The deepest write at or above the key, else the last below it that the message names."""
    full = (*error.path, *error.problem.split()[0].split("."))
    paths = [(tuple(w.path.split(".")), w) for w in reversed(writes)]
    above = [(p, w) for p, w in paths if full[: len(p)] == p]
    if above:
        return max(above, key=lambda pair: len(pair[0]))[1]
    below = [(p, w) for p, w in paths if p[: len(error.path)] == error.path]
    named = [w for p, w in below if p[-1] in error.problem]
    return named[0] if named else below[0][1] if below else paths[0][1]


def _spot(sweep: Sweep, write: Write, error: ConfigError) -> str:
    rest = error.path[len(write.path.split(".")) :]
    return sweep.document.where((*write.at, *rest))
