"""The key `seeds` of a sweep file: the seeds that every arm runs with, and those that an arm may
get while its verdict is open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from detcore.config import nearest
from orchestrator.sweep.document import Document, KeyPath

MOST = 100  # seeds of one arm


@dataclass(frozen=True)
class Seeds:
    listed: tuple[int, ...]
    more: tuple[int, ...] = ()  # in the order in which they are run; see `planning.replicates`
    by: int = 1  # so many of them at once

    @property
    def looks(self) -> tuple[int, ...]:
        """How many seeds an arm has when its verdict is looked at; one look without `more`."""
        first, most = len(self.listed), len(self.listed) + len(self.more)
        return (*range(first, most, self.by), most) if self.more else (first,)

    def rounds(self) -> list[tuple[int, ...]]:
        """The seeds that each round adds."""
        return [self.more[i : i + self.by] for i in range(0, len(self.more), self.by)]


def read_seeds(document: Document) -> Seeds:
    """`[0, 1, 2]` or `{list: [0, 1, 2], extend_to: 8, extend_by: 1}`. Raises SweepError."""
    given = document.data.get("seeds", [0])
    if not isinstance(given, dict):
        return Seeds(_listed(document, ("seeds",), given))
    choices = ["list", "extend_to", "extend_by"]
    for key in given:
        if key == "extend_while":
            raise document.error(
                ("seeds", key),
                "is not needed: an arm gets further seeds while its verdict is open; "
                "how fine a difference that takes is metric.min_effect",
            )
        if key not in choices:
            hint = nearest(str(key), choices)
            raise document.error(("seeds", str(key)), f"unknown key {key!r}; {hint}")
    listed = _listed(document, ("seeds", "list"), given.get("list"))
    if "extend_to" not in given:
        if "extend_by" in given:
            raise document.error(("seeds", "extend_by"), "goes with extend_to")
        return Seeds(listed)
    most = _whole(document, ("seeds", "extend_to"), given["extend_to"])
    if not len(listed) < most <= MOST:
        raise document.error(
            ("seeds", "extend_to"),
            f"is the number of seeds that an arm has at most: more than the {len(listed)} of "
            f"`list` and up to {MOST}; is {most}",
        )
    by = _whole(document, ("seeds", "extend_by"), given.get("extend_by", 1))
    if not 1 <= by <= most - len(listed):
        raise document.error(
            ("seeds", "extend_by"),
            f"must be 1 to {most - len(listed)}, as many seeds as a round may add; is {by}",
        )
    start = max(listed) + 1
    return Seeds(listed, tuple(range(start, start + most - len(listed))), by)


def _listed(document: Document, at: KeyPath, given: Any) -> tuple[int, ...]:
    if not isinstance(given, list) or not given:
        raise document.error(at, f"must be a list of whole numbers, is {given!r}")
    for i, seed in enumerate(given):
        if _whole(document, (*at, str(i)), seed) < 0:
            raise document.error((*at, str(i)), f"must not be negative, is {seed}")
        if seed in given[:i]:
            raise document.error((*at, str(i)), f"seed {seed} is given twice")
    return tuple(given)


def _whole(document: Document, at: KeyPath, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise document.error(at, f"must be a whole number, is {value!r}")
    return value
