"""What a person sees while a sweep runs: one small table on a terminal, one line per finished cell
elsewhere (a log, a pipe).

Fed by calls, and by nothing else: it starts no thread. Writes to standard error; the final table
goes to standard output.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

REFRESH = 0.25  # seconds between two drawings
REPORT = 60.0  # seconds between two plain status lines
SHOWN = 8  # running cells shown at once: the table must not outgrow the screen


@dataclass
class _Running:
    label: str
    workers: int
    since: float
    step: int = 0
    steps: int = 0
    told: float = 0.0  # when that was heard
    loss: float | None = None
    images_per_s: float | None = None


class Progress:
    """`with Progress(total, reused=[...]) as progress: ...`

    `total` cells are planned, of which those in `reused` (their outcomes) were settled before.
    `clock` gives seconds. `words` are shown in place of outcomes.
    """

    def __init__(
        self,
        total: int,
        reused: Iterable[str] = (),
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        metric: str = "mAP",
        words: Mapping[str, str] | None = None,
    ) -> None:
        self._words = words or {}
        self.console = console or Console(file=sys.stderr, highlight=False)
        self._clock = clock
        self._metric = metric
        self._total = total
        self._reused = tuple(reused)
        self._finished: dict[str, tuple[str, float]] = {}  # id -> how it is called, seconds
        self._running: dict[str, _Running] = {}
        self._widest = 0  # most cells seen running at once
        self._start = clock()
        self._drawn = self._reported = -1e9
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        self._start = self._clock()
        if self.console.is_terminal:
            self._live = Live(
                console=self.console, auto_refresh=False, transient=True, redirect_stdout=False
            )
            self._live.start()
        self._show()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    # ------------------------------------------------------------ what happens

    def add(self, cells: int, reused: Iterable[str] = ()) -> None:
        """More cells are planned, of which those in `reused` were settled before."""
        self._total += cells
        self._reused += tuple(reused)

    def cell_started(self, id: str, label: str, workers: int) -> None:
        """Also for a further attempt at a cell that had ended with a fault."""
        self._finished.pop(id, None)
        self._running[id] = _Running(label, workers, self._clock())
        self._widest = max(self._widest, len(self._running))
        self._show()

    def cell_progress(
        self,
        id: str,
        step: int,
        steps: int,
        loss: float | None = None,
        images_per_s: float | None = None,
    ) -> None:
        cell = self._running.get(id)
        if cell:  # a message may come after the end
            cell.step, cell.steps, cell.loss = step, steps, loss
            cell.images_per_s, cell.told = images_per_s, self._clock()
            self._show(often=True)

    def cell_finished(
        self,
        id: str,
        outcome: str,
        metric: float | None = None,
        seconds: float | None = None,
        label: str = "",
    ) -> None:
        """Of a cell that had not started, `label` says which it was."""
        cell = self._running.pop(id, None)
        label = cell.label if cell else label or id
        spent = seconds if seconds is not None else self._clock() - cell.since if cell else 0.0
        word = self._words.get(outcome, outcome)
        self._finished[id] = (word, spent)
        value = f"{self._metric} {metric:.3f}" if metric is not None else ""
        count = f"[{self._done:>{len(str(self._total))}}/{self._total}]"
        line = f"{count} {label}: {word} {value}".rstrip()
        self._print(Text(f"{line}, {duration(spent)}", style=_STYLES.get(outcome, "magenta")))
        self._show()

    def cell_again(self, id: str, outcome: str) -> None:
        """An attempt has ended with a fault, and another follows: the cell is not done."""
        if cell := self._running.pop(id, None):
            spent = duration(self._clock() - cell.since)
            self._print(Text(f"{cell.label}: {outcome} after {spent}, is run again", "magenta"))
        self._show()

    def message(self, text: str) -> None:
        """A line above the table."""
        self._print(Text(text))

    def tick(self) -> None:
        """Call now and then, for the clock on the screen."""
        self._show(often=True)

    # ------------------------------------------------------------ what is shown

    @property
    def _done(self) -> int:
        return len(self._reused) + len(self._finished)

    def seconds_left(self) -> float | None:
        """An estimate; None before anything is known.

        A running cell goes on at the pace that it had when it was last heard of (the first step
        alone, which comes at once, tells none), a waiting one takes the mean of those finished here
        (before the first: of the projected running ones); the work is shared by as many cells as
        have been seen to run at once.
        """
        now = self._clock()
        projected = {
            id: (cell.told - cell.since) * cell.steps / cell.step
            for id, cell in self._running.items()
            if cell.step > 1
        }
        known = [seconds for _, seconds in self._finished.values() if seconds > 0]
        known = known or list(projected.values())
        if not known or not self._widest:
            return None
        mean = sum(known) / len(known)
        rest = [
            max(projected.get(id, mean) - (now - cell.since), 0.0)
            for id, cell in self._running.items()
        ]
        waiting = self._total - self._done - len(self._running)
        total = sum(rest) + max(waiting, 0) * mean
        return max(total / self._widest, max(rest, default=0.0))

    def status(self) -> str:
        """`3/18 done (2 converged, 1 diverged), 2 running, 13 waiting; 1:32, about 7:40 left`"""
        counts = Counter([*self._reused, *(outcome for outcome, _ in self._finished.values())])
        outcomes = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
        text = f"{self._done}/{self._total} done" + (f" ({outcomes})" if outcomes else "")
        text += f", {len(self._running)} running"
        waiting = self._total - self._done - len(self._running)
        text += f", {waiting} waiting; {duration(self._clock() - self._start)}"
        left = self.seconds_left() if self._done < self._total else None
        return text + (f", about {duration(left)} left" if left is not None else "")

    def table(self) -> RenderableType:
        """The running cells and the status line; at most a dozen lines high."""
        grid = RichTable(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        # what is left beside 120000/120000, a loss, a speed and a time: only labels are cut
        labels = max(self.console.width - 44, 12)
        grid.add_column("running", no_wrap=True, overflow="ellipsis", max_width=labels)
        for name in ("step", "loss", "img/s", "time"):
            grid.add_column(name, justify="right", no_wrap=True)
        cells = list(self._running.values())
        for cell in cells[:SHOWN]:
            grid.add_row(
                Text(cell.label),
                f"{cell.step}/{cell.steps}" if cell.steps else "starting",
                "" if cell.loss is None else f"{cell.loss:.3g}",
                "" if cell.images_per_s is None else f"{cell.images_per_s:.1f}",
                duration(self._clock() - cell.since),
            )
        if len(cells) > SHOWN:
            grid.add_row(Text(f"and {len(cells) - SHOWN} more"))
        status = Text(self.status(), style="bold")
        return Group(grid, status) if cells else status

    def _show(self, often: bool = False) -> None:
        """Draw. `often`: the call comes many times a second and may be passed over."""
        now = self._clock()
        if self._live:
            if not often or now - self._drawn >= REFRESH:
                self._drawn = now
                self._live.update(self.table(), refresh=True)
        elif now - self._reported >= REPORT:
            self._reported = now
            self._print(Text(self.status()))

    def _print(self, text: Text) -> None:
        # a log's line is a line: it is not folded at some width
        self.console.print(text, soft_wrap=not self.console.is_terminal)


def duration(seconds: float) -> str:
    """`8 s`, `1:32`, `2:05:09`"""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes, last = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{last:02}" if hours else f"{minutes}:{last:02}"


_STYLES = {"converged": "", "diverged": "yellow", "stalled": "yellow"}
