"""Which nodes of a joined cluster may hold ranks: those that have the driver's code and data and
see its storage. A node that differs would train something else, or fail in the middle of the night.

Those that are there when a sweep starts are looked at before its first cell, and one that differs
ends the start: a person is there to put it right. One that joins later is looked at before the
first gang lies on it, and is left out if it differs; no cell has to fail for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack
from pathlib import Path

from orchestrator.cluster.connect import ClusterError
from orchestrator.cluster.gang import Job
from orchestrator.cluster.node_findings import Answer
from orchestrator.cluster.nodes import Asked, Asking, asking, living, this_process
from orchestrator.findings import Finding, failures
from orchestrator.wording import count


class Admission:
    """`with Admission(folder, say) as admission: ...`, for the cells whose files are in `folder`;
    `say` shows a line to the user."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self._folder, self._say = folder, say
        self._stack = ExitStack()
        self._asked: Asked | None = None
        self._here: Answer | None = None
        self._passed: set[str] = set()
        self._left_out: set[str] = set()
        self._said: set[str] = set()
        self._waiting: dict[str, Asking] = {}

    def __enter__(self) -> Admission:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def check(self, jobs: Iterable[Job]) -> None:
        """Look at every node, and at what `jobs` need of it. Raises ClusterError with a line for
        each thing that is wrong."""
        self._stack.close()
        asked = self._stack.enter_context(asking(self._folder, jobs))
        nodes = living()
        self._say(f"checking {count(len(nodes), 'node')} ...")
        asked_now = Asking(nodes, asked)
        here = this_process(asked)
        found = asked_now.findings(asked_now.answers() or [], here)
        every = [finding for of_node in found.values() for finding in of_node]
        if wrong := failures(every):
            raise ClusterError("\n".join(str(finding) for finding in wrong))
        self._tell(every)
        self._asked, self._here = asked, here
        self._passed, self._left_out, self._waiting = set(found), set(), {}

    def closed(self, ids: Collection[str]) -> set[str]:
        """Of the nodes that live, those on which no gang may lie now. Does not wait."""
        new = {*ids} - self._passed - self._left_out - self._waiting.keys()
        if new and self._asked:
            for node in (node for node in living() if node.id in new):
                self._waiting[node.id] = Asking([node], self._asked)
        for id, asked_now in list(self._waiting.items()):
            if id not in ids:
                del self._waiting[id]
            elif (answers := asked_now.answers(wait=False)) is not None:
                del self._waiting[id]
                self._judge(id, asked_now, answers)
        return {*ids} - self._passed

    def _judge(self, id: str, asked_now: Asking, answers: list[Answer]) -> None:
        assert self._here is not None
        found = asked_now.findings(answers, self._here)[id]
        if wrong := failures(found):
            if answers[0].facts is not None:  # else it is asked again: it may only be slow
                self._left_out.add(id)
            for finding in wrong if id not in self._said else []:
                self._say(f"a node that joined is left out: {finding}")
            self._said.add(id)
        else:
            self._passed.add(id)
            self._tell(found)

    def _tell(self, found: Iterable[Finding]) -> None:
        for finding in found:
            if finding.level == "warning":
                self._say(f"note: {finding}")
