"""Tell a sweep that runs what to do.

    python -m orchestrator.ctl pause|resume|drain|cancel SWEEP.yaml [--profile NAME] [--data DIR]
                                                         [--set a.b=c] [--only EXPR]

pause: start no further cell; what runs goes on. resume: start cells again (after pause or drain).
drain: start no further cell and end when nothing runs. cancel: end now. With --only, pause, resume
and cancel mean these cells alone.
"""

from __future__ import annotations

import argparse
import getpass
import json
import socket
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.answers import EXIT_MISTAKE, print_text
from orchestrator.cli import add_sweep_arguments, answered
from orchestrator.running.control import COMMANDS, matching
from orchestrator.running.control_file import append, control_file, read_lines
from orchestrator.sweep.expand import expansion
from orchestrator.sweep.spec import SweepError, load_sweep
from orchestrator.tracking.provenance import owner_of

PATIENCE = 10.0  # seconds for the answer; an orchestrator that starts Ray is busy for that long
POLL = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    return answered(lambda: _ctl(args))


def _ctl(args: argparse.Namespace) -> None:
    sweep = load_sweep(args.sweep, profile=args.profile, overrides=args.set, data=args.data)
    if args.only is not None:
        expanded = expansion(sweep)  # a slip is told at once, and not by the other side
        matching([*expanded.cells, *expanded.more, *expanded.tuning], args.only)
    told = tell(Path("mlruns"), sweep.name, args.command, args.only, args.wait)
    print_text(json.dumps(told) if args.json else told["text"])
    if told["refused"]:
        raise SystemExit(EXIT_MISTAKE)


def tell(
    folder: Path, sweep: str, command: str, only: str | None = None, wait: float = PATIENCE
) -> dict[str, Any]:
    """Send `command` to the orchestrator at `sweep` and wait for its answer; `text`, `refused` and
    whether there was an answer (`answered`).

    Raises SweepError when no orchestrator is at the sweep, or it ends without an answer.
    """
    file = control_file(folder, sweep)
    begin = _at_it(file, sweep)
    id = uuid.uuid4().hex
    line = {"command": command, "only": only, "to": begin["begin"], "id": id, "by": _who()}
    try:
        append(file, {**line, "time": time.time()})
    except OSError as error:
        raise SweepError(f"{file}: cannot be written ({error.strerror or error})") from None
    give_up = time.monotonic() + wait
    prefix = f"{sweep}: {command}: "
    while True:
        lines = read_lines(file)
        for found in lines:
            if found.get("answer") == id:
                text, refused = f"{prefix}{found['text']}", bool(found["refused"])
                return {"text": text, "refused": refused, "answered": True}
        _at_it(file, sweep, begin["begin"])
        if time.monotonic() >= give_up:
            text = (
                f"{prefix}sent to {_name(begin)}, which has not answered in {wait:g} s; it does it "
                "as soon as it comes to it"
            )
            return {"text": text, "refused": False, "answered": False}
        time.sleep(POLL)


def _at_it(file: Path, sweep: str, token: str | None = None) -> dict[str, Any]:
    """The first line of the orchestrator that is at the sweep; with `token`, of that one."""
    lines = read_lines(file)
    begin = next((line for line in lines if "begin" in line), None)
    where = f"sweep {sweep}: no orchestrator is at it from this folder"
    if begin is None:
        raise SweepError(f"{where} ({file.parent.resolve()})")
    if token not in (None, begin["begin"]) or any("end" in line for line in lines):
        raise SweepError(f"{where}: {_name(begin)} has ended or is about to")
    tags = {key: str(value) for key, value in begin.items()}
    if owner_of(tags) == "gone":
        raise SweepError(f"{where}: {_name(begin)} has died")
    return begin


def _name(begin: dict[str, Any]) -> str:
    return f"process {begin.get('orchestrator.pid')} on {begin.get('orchestrator.host')}"


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        user = "someone"
    return f"{user} on {socket.gethostname()}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.ctl",
        description="Tell a sweep that runs what to do. pause: start no further cell, what runs "
        "goes on; resume: start cells again; drain: start no further cell and end when nothing "
        "runs; cancel: end now. With --only, pause, resume and cancel mean these cells alone.",
        epilog="Exit codes: 0 done, or sent to an orchestrator that has not answered yet; 2 no "
        "orchestrator is at the sweep, it refused, or a mistake in the arguments.",
    )
    parser.add_argument("command", choices=COMMANDS)
    add_sweep_arguments(parser)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument(
        "--wait", type=float, default=PATIENCE, metavar="S", help="seconds for the answer"
    )
    args = parser.parse_args(argv)
    if args.command == "drain" and args.only is not None:
        parser.error("drain ends the whole sweep: it goes without --only")
    if not args.wait >= 0:
        parser.error(f"--wait must not be negative, is {args.wait}")
    return args


if __name__ == "__main__":
    raise SystemExit(main())
