"""Which cell a person means: by its id or the beginning of it, by its label, or by an MLflow run of
it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path

from orchestrator.cli import CellError
from orchestrator.planning.tuning import LATER
from orchestrator.tracking.attempts import Attempt, Records, deciding

_ID, _RUN = re.compile(r"[0-9a-f]{1,12}"), re.compile(r"[0-9a-f]{32}")
_CHOICES = 6


def find_cell(records: Records, text: str, root: Path | None = None) -> list[Attempt]:
    """The attempts at the cell that `text` means, newest first.

    Raises CellError when it means none, or several, or one that was never started; `root` is where
    cells' files are looked for that MLflow does not know (default: the working folder).
    """
    text = " ".join(text.split())
    name = text.lower()
    if _RUN.fullmatch(name) and (attempt := records.attempt(name)):
        name = attempt.cell_id
    if _ID.fullmatch(name):  # the store need not send all that it has
        found = _by_cell(records.attempts(f"tags.`cell.id` LIKE '{name}%'"))
        if found:
            return found.get(name) or _the_only(text, found)
    known = _by_cell(records.attempts())
    if found := {id: tries for id, tries in known.items() if tries[0].label == text}:
        return _the_only(text, found)
    raise CellError(_unknown(records, text, known, root or Path.cwd()))


def _by_cell(attempts: Iterable[Attempt]) -> dict[str, list[Attempt]]:
    cells: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        cells.setdefault(attempt.cell_id, []).append(attempt)
    return cells


def _the_only(text: str, found: Mapping[str, list[Attempt]]) -> list[Attempt]:
    if len(found) == 1:
        return next(iter(found.values()))
    choices = [
        f"{id} ({a.label}, {a.outcome} in sweep {a.sweep})"
        for id, attempts in found.items()
        for a in [deciding(attempts)]
    ]
    more = f" and {len(choices) - _CHOICES} more" if choices[_CHOICES:] else ""
    raise CellError(
        f"{text!r} means {len(found)} cells: {', '.join(choices[:_CHOICES])}{more}; give an id"
    )


def _unknown(records: Records, text: str, known: Mapping[str, list[Attempt]], root: Path) -> str:
    planned = _planned(records)
    for id, (label, sweep, arguments) in planned.items():
        if id not in known and (label == text or (_ID.fullmatch(text) and id.startswith(text))):
            return (
                f"cell {id} ({label}) of sweep {sweep} was never started; this starts it: "
                f"python -m orchestrator.run {arguments}"
            )
    if _ID.fullmatch(text):
        for folder in sorted((root / "mlruns" / "cells").glob(f"{text}*")):
            return (
                f"cell {folder.name} is not in MLflow, but has files in {folder}; the next start "
                "of its sweep stores its result, or trains it"
            )
    labels = {id: attempts[0].label for id, attempts in known.items()}
    labels |= {id: label for id, (label, _, _) in planned.items() if id not in labels}
    if not labels:
        return (
            f"no cell is on record in {records.store.shown}; go to the folder in which the sweep "
            "was started, or set MLFLOW_TRACKING_URI as it was then"
        )
    close = get_close_matches(text, [*labels, *labels.values()], n=3, cutoff=0.4)
    nearest = [f"{id} ({label})" for id, label in labels.items() if {id, label} & {*close}]
    hint = f"; the nearest: {', '.join(nearest[:_CHOICES])}" if nearest else ""
    return f"no cell is called {text!r} (an id, the beginning of one, a label or a run){hint}"


def _planned(records: Records) -> dict[str, tuple[str, str, str]]:
    """The cells that the starts of sweeps meant to run: label, sweep, arguments of the start."""
    cells: dict[str, tuple[str, str, str]] = {}
    for run in records.sweeps():
        tags = run.data.tags
        try:
            plan = json.loads(records.text(run.info.run_id, "plan.json") or "{}")
            for cell in [*plan.get("tune", {}).get("cells", []), *plan.get("cells", [])]:
                about = (cell["label"], tags["sweep.name"], tags.get("sweep.arguments", ""))
                # a cell that waits for tuning has no id yet
                cells.setdefault(cell["id"] or f"{LATER} #{len(cells)}", about)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a plan of another form
    return cells
