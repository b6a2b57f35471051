"""Which sweep is meant: by name, by its file, and by variant."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path

from dashboards.reader import SweepRun
from dashboards.store import LedgerError, Store

_SHOWN = 8  # names in one line


def sweep_name(given: str) -> str:
    """The name of a sweep, or the one that its file has. Raises LedgerError."""
    path = Path(given)
    if path.suffix.lower() not in (".yaml", ".yml"):
        return given
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LedgerError(f"{given}: {error.strerror or error}") from error
    except (ValueError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise LedgerError(f"{given}: not a YAML file: {said}") from error
    name = data.get("name") if isinstance(data, dict) else None
    if not isinstance(name, str) or not name:
        raise LedgerError(f"{given}: not a sweep file: it has no `name`")
    return name


class UnknownSweep(LedgerError):
    """The store answers, and has no such sweep, or several; one line."""


def chosen(sweeps: Collection[SweepRun], store: Store, name: str, variant: str | None) -> SweepRun:
    """The one of `sweeps` that is called `name`. `variant`: the beginning of one of its variants or
    the id of its run (default: the one that was last at work). Raises UnknownSweep."""
    found = [sweep for sweep in sweeps if sweep.name == name]
    if not found:
        raise UnknownSweep(_unknown(name, {s.name for s in sweeps}, store))
    if variant:
        of_sweep, found = found, [s for s in found if _is_variant(s, variant)]
        if not found:
            have = ", ".join(variant_text(s) for s in of_sweep[:_SHOWN])
            raise UnknownSweep(f"the sweep {name!r} has no variant {variant!r}; it has {have}")
        if len({s.variant for s in found}) > 1:
            have = ", ".join(variant_text(s) for s in found[:_SHOWN])
            raise UnknownSweep(f"{variant!r} begins several variants of {name!r}: {have}")
    return max(found, key=lambda s: (s.is_open, s.ended or s.began or 0.0, s.run_id))


# ---------------------------------------------------------------- inside


def _is_variant(sweep: SweepRun, given: str) -> bool:
    return sweep.variant.startswith(given) or sweep.run_id == given


def variant_text(sweep: SweepRun) -> str:
    """A variant and the arguments it was started with."""
    return f"{sweep.variant} ({sweep.arguments})" if sweep.arguments else sweep.variant


def _unknown(name: str, known: set[str], store: Store) -> str:
    if not known:
        return f"no sweep is on record in {store.shown}"
    near = difflib.get_close_matches(name, sorted(known), _SHOWN, cutoff=0.5)
    what = "nearest" if near else "on record"
    names = near or sorted(known)[:_SHOWN]
    more = f" and {len(known) - len(names)} more" if not near and len(known) > len(names) else ""
    return (
        f"no sweep {name!r} is on record in {store.shown}; {what}: "
        f"{', '.join(map(repr, names))}{more}"
    )
