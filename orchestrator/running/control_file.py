"""Commands to a sweep that runs: one file of JSON lines beside the sweep's lock.

An orchestrator begins the file anew with a line that names it (`begin`), `orchestrator.ctl` appends
commands addressed `to` that one, the orchestrator appends its answers and at last `end`. So a
command that an earlier orchestrator did not come to read means nothing to a later one. Whoever
appends makes one write: lines of several writers do not mix (on a network disk only if they are on
one host).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Line = dict[str, Any]
_PROCESS = ("orchestrator.host", "orchestrator.pid")


def control_file(folder: Path, sweep: str) -> Path:
    return folder / f"{sweep}.control"


def append(file: Path, line: Line) -> None:
    """Add `line` in one write, on disk when this returns. Raises OSError, also when `file` is not
    there: only an orchestrator makes it."""
    content = ("\n" + as_line(line)).encode()  # a line that a full disk cut off ends here
    number = os.open(file, os.O_WRONLY | os.O_APPEND)
    try:
        if os.write(number, content) < len(content):
            raise OSError(f"{file}: no space left")
        os.fsync(number)
    finally:
        os.close(number)


def read_lines(file: Path) -> list[Line]:
    """All whole lines of the newest orchestrator; [] where there is no file."""
    try:
        content = file.read_bytes()
    except OSError:
        return []
    return parsed(content[: content.rfind(b"\n") + 1])


def state_of(folder: Path, sweep: str, at_it: tuple[str, str]) -> str:
    """How ctl has left the sweep that the process `at_it` (host, number) runs: `paused`,
    `draining`, `3 cells held` ...; empty for as usual. Whether it lives is another question
    (`owner_of`)."""
    state = ""
    for line in read_lines(control_file(folder, sweep)):
        if "begin" in line and at_it != tuple(map(line.get, _PROCESS)):
            return ""
        if "end" in line:
            return ""
        state = str(line.get("state", state))
    return state


def parsed(content: bytes) -> list[Line]:
    found = []
    for text in content.splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # cut off, or not ours
        if isinstance(line, dict):
            found.append(line)
    return found


def as_line(line: Line) -> str:
    return json.dumps(line) + "\n"
