"""Asking before something that costs much or takes something away."""

from __future__ import annotations

import sys

from orchestrator.sweep.spec import SweepError


def confirm(question: str, yes: bool) -> None:
    """Ask on the terminal whether to go on, unless `yes` says so already. Raises SweepError, one
    line, for any answer but y or yes, and where there is no terminal to ask on."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise SweepError(
            f"{question}, and there is no terminal to ask on: nothing was started; --yes starts it"
        )
    print(f"{question}; go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise SweepError("nothing was started")
