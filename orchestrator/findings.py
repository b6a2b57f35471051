"""What a check has found: plain data, a line each, with the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """`check` is one word for what was looked at; `what` names the node that it is about, if it is
    about one; `remedy` is empty for what is in order."""

    check: str
    level: Level
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.what}; remedy: {self.remedy}" if self.remedy else self.what

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))


def failures(found: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.level == "failure"]
