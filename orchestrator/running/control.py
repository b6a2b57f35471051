"""What `ctl` asks of a sweep that runs, and what follows from it."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from orchestrator.planning.plan import Planned
from orchestrator.running.control_file import Line, append, as_line, control_file, parsed
from orchestrator.sweep.expand import Cell, filter_cells
from orchestrator.sweep.spec import SweepError
from orchestrator.tracking.provenance import process_tags
from orchestrator.wording import count

COMMANDS = ("pause", "resume", "drain", "cancel")


class Control:
    """`with Control(folder, sweep, cells) as control:`, held with the sweep's lock. For one thread.

    `folder` is where the lock lies, `cells` are those of this start; `say` takes lines for the
    user. Where the file cannot be written, the sweep runs and takes no commands.
    """

    def __init__(
        self,
        folder: Path,
        sweep: str,
        cells: Iterable[Planned],
        *,
        say: Callable[[str], None] = lambda text: None,
        arguments: str = "",
    ) -> None:
        self.file = control_file(folder, sweep)
        self.say = say
        self.arguments = arguments
        self._token = uuid.uuid4().hex
        self._read = 0  # bytes of the file
        self._cells: dict[str, Cell] = {}
        self._paused = False
        self._held: set[str] = set()  # not started until `resume`
        self._said: list[tuple[str, str, str]] = []  # command, `--only` and by whom
        self._dropped: dict[str, str] = {}  # cancelled cell -> by whom
        self._ending: tuple[str, str] | None = None  # drain or cancel, and by whom
        self.add(cells)

    def __enter__(self) -> Control:
        begin = {"begin": self._token, "arguments": self.arguments, **process_tags()}
        beginning = self.file.with_name(f".{self.file.name}.{os.getpid()}")
        try:
            beginning.write_text(as_line(begin))
            self._read = beginning.stat().st_size
            beginning.replace(self.file)  # never half there
        except OSError as error:
            with suppress(OSError):
                beginning.unlink()
            self.say(f"{self.file}: cannot be written ({error.strerror}); ctl does not reach us")
        return self

    def __exit__(self, *_: object) -> None:
        self._answer({"end": self._token})

    def add(self, cells: Iterable[Planned]) -> None:
        """Further cells of this start. What was said with `--only` holds for them, too."""
        new = {planned.id: planned.cell for planned in cells if planned.id not in self._cells}
        self._cells |= new
        for command, only, by in self._said:
            try:
                mine = self._chosen(only, new)
            except SweepError:
                continue  # it means none of these
            if command == "cancel":
                self._dropped |= dict.fromkeys(mine, by)
            else:
                self._held = self._held | mine if command == "pause" else self._held - mine

    def read(self, running: Collection[str] = (), ended: Collection[str] = ()) -> None:
        """Take the commands that have come, and answer them. `running` and `ended` are ids of
        cells; the answer counts them. Costs one look at the file's size when there are none."""
        for line in self._new():
            if line.get("to") != self._token or line.get("command") not in COMMANDS:
                continue
            try:
                text, refused = self._take(line, set(running), set(ended)), False
            except SweepError as error:
                text, refused = str(error), True
            self.say(f"ctl {line['command']} by {_by(line)}: {text}")
            self._answer(
                {
                    "answer": line.get("id"),
                    "text": text,
                    "refused": refused,
                    "state": self._state(),
                    "time": time.time(),
                }
            )

    # ------------------------------------------------------------ what follows from them

    def starting(self, cell: str) -> bool:
        """Whether this cell may start now."""
        held = self._paused or cell in self._held
        return not (held or self._ending or cell in self._dropped)

    @property
    def drops(self) -> bool:
        """Whether any cell is cancelled."""
        return bool(self._dropped) or self.stopped == "cancelled"

    def dropped(self, cell: str) -> bool:
        """Whether this cell is cancelled: it does not start in this start of the sweep at all."""
        return cell in self._dropped or self.stopped == "cancelled"

    @property
    def draining(self) -> bool:
        """Nothing more is started; the sweep ends when nothing runs."""
        return self._ending is not None

    def cancelled(self, running: Iterable[str]) -> set[str]:
        """Those of the `running` cells that are to be ended now."""
        return {cell for cell in running if self.dropped(cell)}

    def reason(self, cell: str) -> str:
        """Why it was ended: what is on record as its `cell.reason`."""
        by = self._dropped.get(cell) or (self._ending[1] if self._ending else "")
        return f"cancelled by {by}" if by else "cancelled"

    @property
    def stopped(self) -> str:
        """`drained` or `cancelled` when the whole sweep was, else empty."""
        return {"drain": "drained", "cancel": "cancelled"}[self._ending[0]] if self._ending else ""

    # ------------------------------------------------------------ inside

    def _take(self, line: Line, running: set[str], ended: set[str]) -> str:
        """Do what a command says; what it comes to. Raises SweepError where it makes no sense."""
        command, only, by = line["command"], line.get("only"), _by(line)
        if self.stopped == "cancelled":
            raise SweepError("the sweep is being cancelled already")
        if only is None:
            return self._take_whole(command, by, len(running))
        mine = self._chosen(only, self._cells)
        here, over = mine & running, mine & ended
        waiting = mine - running - ended - self._dropped.keys()
        self._said += [(command, only, by)] if command != "drain" else []
        if command == "pause":
            self._held |= waiting
            if not waiting and not here:
                return "none of these waits now; such as are still to come are held until resume"
            return f"{count(len(waiting), 'cell')} held until resume; {len(here)} running go on"
        if command == "resume":
            if self._paused or self._ending:
                self._said.pop()
                raise SweepError("the whole sweep is held: resume without --only")
            back = self._held & mine
            self._held -= back
            return f"{count(len(back), 'cell')} may start again"
        if command == "drain":
            raise SweepError("drain ends the whole sweep: without --only")
        self._dropped |= dict.fromkeys(waiting | here, by)
        already = f"; {len(over)} had ended before" if over else ""
        return f"{len(here)} running ended, {len(waiting)} waiting not started{already}"

    def _take_whole(self, command: str, by: str, running: int) -> str:
        if command == "pause":
            if self._ending:
                raise SweepError("the sweep is drained already: nothing more is started")
            self._paused = True
            return f"no further cell is started; {running} running go on"
        if command == "resume":
            was = self._paused or self._held or self._ending
            self._paused, self._ending = False, None
            self._held.clear()
            self._said = [said for said in self._said if said[0] == "cancel"]
            return "cells are started again" if was else "nothing was held"
        self._ending = (command, by)
        if command == "drain":
            return f"no further cell is started; the sweep ends after the {running} running"
        return f"the sweep ends now; {running} running ended"

    def _chosen(self, only: str, cells: Mapping[str, Cell]) -> set[str]:
        chosen = {id(cell) for cell in matching(cells.values(), only)}
        return {name for name, cell in cells.items() if id(cell) in chosen}

    def _state(self) -> str:
        if self._ending:
            return {"drain": "draining", "cancel": "being cancelled"}[self._ending[0]]
        if self._paused:
            return "paused"
        return f"{count(len(self._held), 'cell')} held" if self._held else ""

    def _new(self) -> list[Line]:
        try:
            if self.file.stat().st_size <= self._read:
                return []
            with self.file.open("rb") as file:
                file.seek(self._read)
                content = file.read()
        except OSError:
            return []
        complete = content[: content.rfind(b"\n") + 1]
        self._read += len(complete)
        return parsed(complete)

    def _answer(self, line: Line) -> None:
        try:
            append(self.file, line)
        except OSError:
            return  # a full disk: it has been done all the same, and said


def matching(cells: Iterable[Cell], only: str) -> list[Cell]:
    """The cells for which `only` is true. Those that tune have the parameters of `tune` beside
    their axes; others have not, and are then not meant. Raises SweepError when there are none."""
    roles: dict[str, list[Cell]] = {}
    for cell in cells:
        roles.setdefault(cell.role, []).append(cell)
    found: list[Cell] = []
    problems = []
    for alike in roles.values():
        try:
            found += filter_cells(alike, only)
        except SweepError as error:
            problems.append(error)
    if not found:
        raise problems[0] if problems else SweepError(f"--only: {only!r}: there are no cells")
    return found


def _by(line: Line) -> str:
    return " ".join(str(line.get("by", "?")).split())[:100]
