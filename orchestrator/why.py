"""Why a cell ended as it did: outcome, reason, evidence, attempt by attempt, and what comes next.

    python -m orchestrator.why CELL [--json]

CELL is an id or the beginning of one, a label (`norm=gn seed=0`), or the MLflow run of an attempt.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

from dashboards.outcomes import FAULTS, SETTLED
from orchestrator.answers import print_text, to_json
from orchestrator.cells import find_cell
from orchestrator.cli import add_cell_arguments, answered
from orchestrator.running.again import LEFT
from orchestrator.running.progress import duration
from orchestrator.sweep.failure import GAVE_UP, STUCK, UNLIMITED
from orchestrator.tracking.attempts import Attempt, Records, deciding, open_records
from orchestrator.tracking.table import RUNNING

TAIL = 20  # lines of a log


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    return answered(lambda: _why(args))


def _why(args: argparse.Namespace) -> None:
    records = open_records()
    found = explain(records, find_cell(records, " ".join(args.cell)))
    print_text(to_json(found) if args.json else to_text(found))


def explain(records: Records, attempts: list[Attempt]) -> dict[str, Any]:
    """All that is known of a cell; `attempts` are newest first."""
    says = deciding(attempts)
    log, lines = _log(records, attempts[0])
    return {
        "id": says.cell_id,
        "label": says.label,
        "sweeps": list(dict.fromkeys(a.sweep for a in attempts)),
        "outcome": says.outcome,
        "reason": says.reason,
        "step": says.step,
        "evidence": _evidence(records, says),
        "next": what_next(says, _retries(records, says), _command(records, says)),
        "attempts": [_attempt(records, a, a is attempts[0]) for a in reversed(attempts)],
        "log": log,
        "log_tail": lines,
        "folder": str(says.folder or ""),
        "mlflow": records.page(says.run),
    }


def what_next(says: Attempt, retries: dict[str, Any], command: str) -> str:
    """What becomes of a cell that stands as `says`; one sentence. `retries` is `failure.retries` of
    its sweep."""
    if says.outcome in SETTLED:
        return (
            "nothing: this is a result, and results are not run again; a start with "
            f"--retry-failed={says.outcome}, or without its run in MLflow, trains it anew"
        )
    if says.outcome == RUNNING and says.owner == "elsewhere":
        host = says.tags.get("orchestrator.host", "?")
        return f"it is marked as running by host {host}; a start here would run it here as well"
    if says.outcome == RUNNING:
        return "it is running"
    there = says.folder is not None and (says.folder / "checkpoint.pt").exists()
    start = "from its checkpoint" if there else "from its beginning"
    now, next_start = _in_the_same_start(says, retries), "the next start of the sweep"
    if says.outcome in LEFT:
        ask = f"{command} --retry-failed={says.outcome}"
        return (
            f"{now}; {next_start} leaves it as well, but runs it {start} when it is told to: {ask}"
        )
    return f"{now}; {next_start} runs it again, {start}: {command}"


def _in_the_same_start(says: Attempt, retries: dict[str, Any]) -> str:
    if says.is_orphan or says.outcome == "cancelled":
        return "no other attempt in the same start"
    if says.outcome == "crashed" and says.reason.startswith("ValueError"):
        return "no other attempt in the same start: data or settings are wrong"
    if says.outcome == "timeout" and "failure.max_hours" in says.reason:
        return "no other attempt in the same start: it would take longer than failure.max_hours"
    if says.outcome == "lost" and GAVE_UP in says.reason:
        return f"no other attempt in the same start: {GAVE_UP}"
    key, many = f"failure.retries.{says.outcome}", retries.get(says.outcome)
    if many is None:  # of a sweep that did not write it down
        return f"tried again in the same start as {key} says"
    if many == 0:
        return f"no other attempt in the same start ({key} is 0)"
    if many == UNLIMITED:
        return (
            f"started again in the same start, until it is lost {STUCK} times without a further "
            f"step ({key})"
        )
    times = "once" if many == 1 else f"up to {many} times"
    return f"tried again in the same start, {times} ({key})"


def _retries(records: Records, attempt: Attempt) -> dict[str, Any]:
    """The retries of the sweep that made the attempt, from its plan; {} where there is none."""
    text = records.text(attempt.tags.get("sweep.run_id", ""), "plan.json")
    try:
        retries = json.loads(text or "{}").get("failure", {}).get("retries", {})
    except (ValueError, AttributeError):
        return {}
    return retries if isinstance(retries, dict) else {}


def _command(records: Records, attempt: Attempt) -> str:
    """The command that started the attempt's sweep."""
    run = records.run(attempt.tags.get("sweep.run_id", ""))
    arguments = run.data.tags.get("sweep.arguments", "") if run else ""
    return f"python -m orchestrator.run {arguments or 'SWEEP.yaml'}"


def _attempt(records: Records, attempt: Attempt, newest: bool) -> dict[str, Any]:
    point, end = attempt.last_point, attempt.ended
    return {
        "attempt": attempt.number,
        "run_id": attempt.run_id,
        "sweep": attempt.sweep,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "step": attempt.step,
        "began": attempt.began,
        "seconds": (end or time.time()) - attempt.began,
        "nodes": attempt.tags.get("ray.nodes", ""),
        "host": attempt.tags.get("orchestrator.host", ""),
        "last_point": vars(point) if point else None,
        # without an end: until now
        "silent_s": max((end or time.time()) - attempt.sign_of_life, 0.0),
        "traceback": _traceback(records, attempt, newest),
    }


def _evidence(records: Records, attempt: Attempt) -> dict[str, Any]:
    """The numbers behind a verdict, from the result; {} where there is none."""
    if attempt.outcome not in SETTLED:
        return {}
    text = records.text(attempt.run_id, "result.json") or _read(attempt.folder, "result.json")
    try:
        evidence = json.loads(text or "{}").get("evidence", {})
    except (ValueError, AttributeError):
        return {}
    return evidence if isinstance(evidence, dict) else {}


def _traceback(records: Records, attempt: Attempt, newest: bool) -> str:
    """As it was raised. The one in the folder is the newest attempt's."""
    if attempt.outcome not in FAULTS:
        return ""
    there = "traceback.txt" in records.files(attempt.run_id)
    text = records.text(attempt.run_id, "traceback.txt") if there else None
    return text or (_read(attempt.folder, "traceback.txt") if newest else None) or ""


def _log(records: Records, attempt: Attempt) -> tuple[str, list[str]]:
    """The newest log of a cell and its end: from its folder, else among the run's artifacts."""
    folder = attempt.folder
    logs = list(folder.glob("*.log")) if folder and folder.is_dir() else []
    if logs:
        newest = max(logs, key=lambda file: file.stat().st_mtime)
        return str(newest), (_read(newest.parent, newest.name) or "").splitlines()[-TAIL:]
    for name in records.files(attempt.run_id):
        if name.endswith(".log"):
            return name, (records.text(attempt.run_id, name) or "").splitlines()[-TAIL:]
    return "", []


def _read(folder: Path | None, name: str) -> str | None:
    try:
        return (folder / name).read_text(encoding="utf-8", errors="replace") if folder else None
    except OSError:
        return None


# ---------------------------------------------------------------- what is shown


def to_text(found: dict[str, Any]) -> str:
    lines = [
        f"{found['label']}",
        f"cell {found['id']} of {_several('sweep', found['sweeps'])}",
        f"{found['outcome']}: {found['reason']}".rstrip(": "),
    ]
    lines += [f"  {name}: {value}" for name, value in found["evidence"].items()]
    lines += ["", f"next: {found['next']}"]
    for attempt in found["attempts"]:
        lines += ["", *_attempt_lines(attempt)]
    if found["log"]:
        lines += ["", f"the end of {found['log']}:", *(f"  {line}" for line in found["log_tail"])]
    lines += ["", f"files:  {found['folder'] or 'not known'}", f"MLflow: {found['mlflow']}"]
    return "\n".join(lines)


def _attempt_lines(attempt: dict[str, Any]) -> list[str]:
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(attempt["began"]))
    where = f" on {attempt['nodes']}" if attempt["nodes"] else " (no node is on record)"
    seconds = duration(attempt["seconds"])
    lines = [
        f"attempt {attempt['attempt']}: {attempt['outcome']} after {seconds}{where}",
        f"  began {began}, by {attempt['host'] or 'an unknown host'}; run {attempt['run_id']}",
    ]
    if attempt["outcome"] == RUNNING:
        lines[0] = f"attempt {attempt['attempt']}: running for {seconds}{where}"
    if attempt["reason"]:
        lines.append(f"  {attempt['reason']}")
    if point := attempt["last_point"]:
        loss = point["values"].get("loss/total")
        text = f"  last point: step {point['step']}"
        text += f", loss {loss:.4g}" if loss is not None else ""
        ago = "ago" if attempt["outcome"] == RUNNING else "before the end"
        lines.append(f"{text}, {duration(attempt['silent_s'])} {ago}")
    else:
        lines.append("  it reported no point")
    if attempt["traceback"]:
        lines.append(indent(attempt["traceback"].rstrip(), "    "))
    return lines


def _several(what: str, names: Sequence[str]) -> str:
    return f"{what} {names[0]}" if len(names) == 1 else f"{what}s {', '.join(names)}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.why",
        description="Why a cell ended as it did, and what comes next.",
        epilog="Exit codes: 0 told, 2 no such cell, or MLflow does not answer.",
    )
    add_cell_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
