"""What the seed report concludes, and what its own numbers say of that.

Every number is one run, so nothing is established. What the numbers do tell is whether the pairs of
rows behind a claim point the way it says, whether a run converged at all, whether a difference is
larger than between two runs of one configuration, and how many settings changed at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dashboards.reference.beside import PRINTED
from dashboards.reference.rows import Report, Row, seed_report, shipped

Tells = Literal["for", "against", "as rerun noise", "neither converged", "nothing"]
Support = Literal[
    "points that way",
    "points that way in part",  # some pairs are of the size of rerun noise
    "half of it points that way",  # some pairs point the other way or did not converge
    "of the size of rerun noise",
    "points the other way",
    "nothing points that way",
]


@dataclass(frozen=True)
class Pair:
    """Two rows of the report. `changed`: the settings in which they differ, where both are known.
    `delta` is None where a row did not converge."""

    before: str
    after: str
    metric: str
    values: tuple[float | None, float | None]
    delta: float | None
    tells: Tells
    changed: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Assessment:
    """`pairs` count, `besides` do not. `noise` is how far apart the report's two runs of one
    configuration are in mAP."""

    id: str
    says: str
    support: Support
    pairs: tuple[Pair, ...]
    besides: tuple[Pair, ...]
    noise: float
    rerun: tuple[str, str]
    note: str = ""

    @property
    def text(self) -> str:
        count = "one pair" if len(self.pairs) == 1 else f"{len(self.pairs)} pairs"
        text = f'{self.id} "{self.says}" {self.support.capitalize()}, {count} of single runs: '
        text += f"{'; '.join(map(_in_words, self.pairs))}."
        if self.besides:
            text += f" Beside that: {'; '.join(map(_in_words, self.besides))}."
        text += (
            f" Two runs of one configuration ({' and '.join(self.rerun)}) are {self.noise:.3f} "
            f"apart, and so may be two that print {self.noise + PRINTED:.3f}: one repeat, which "
            "may have come out near by chance."
        )
        return text + (f" Note: {self.note}." if self.note else "")


def seed_claims() -> list[Assessment]:
    """The ten conclusions of the seed report."""
    data = shipped("seed_claims.yaml")
    return [
        assess(id_, claim, seed_report(), data["rerun"]) for id_, claim in data["claims"].items()
    ]


def assess(
    id_: str, claim: Mapping[str, Any], report: Report, rerun: tuple[str, str] | list[str]
) -> Assessment:
    """A claim as seed_claims.yaml has it, by the numbers of its rows."""
    pairs, besides = (
        tuple(_pair(given, claim["expects"], report, rerun) for given in claim.get(part, ()))
        for part in ("pairs", "besides")
    )
    return Assessment(
        id_,
        claim["says"],
        support([pair.tells for pair in pairs]),
        pairs,
        besides,
        _noise(report, rerun, "mAP"),
        (rerun[0], rerun[1]),
        claim.get("note", ""),
    )


def support(tells: list[Tells]) -> Support:
    """What pairs come to. One that did not converge on either side, or that says nothing, is no
    evidence for a claim: with others that are, half of it is left."""
    found = set(tells)
    if "for" in found:
        if found == {"for"}:
            return "points that way"
        only = found == {"for", "as rerun noise"}
        return "points that way in part" if only else "half of it points that way"
    if "against" in found:
        return "points the other way"
    noise = found == {"as rerun noise"}
    return "of the size of rerun noise" if noise else "nothing points that way"


def _pair(
    given: Mapping[str, Any], expects: str, report: Report, rerun: tuple[str, str] | list[str]
) -> Pair:
    before, after = report.rows[given["before"]], report.rows[given["after"]]
    metric = given.get("metric", "mAP")
    values = before.row.metrics.get(metric), after.row.metrics.get(metric)
    a, b = values
    delta = None if a is None or b is None else round(b - a, 3)
    return Pair(
        given["before"],
        given["after"],
        metric,
        values,
        delta,
        _tells(before, after, delta, expects, _noise(report, rerun, metric)),
        _changed(before, after),
        given.get("note", ""),
    )


def _tells(before: Row, after: Row, delta: float | None, expects: str, noise: float) -> Tells:
    """A run that converged is better than one that did not. Differences of two printed numbers are
    sure to one unit: one that much above a rerun's may be the same size."""
    converged = before.row.converged, after.row.converged
    if not any(converged):
        return "neither converged"
    if converged[0] != converged[1]:
        better = converged[1]
    elif delta is None:
        return "nothing"
    elif abs(delta) <= round(noise + PRINTED, 3):
        return "as rerun noise"
    else:
        better = delta > 0
    return "for" if better == (expects == "better") else "against"


def _noise(report: Report, rerun: tuple[str, str] | list[str], metric: str) -> float:
    one, two = (report.rows[id_].row.metrics[metric] for id_ in rerun)
    return round(abs(two - one), 3)


def _changed(before: Row, after: Row) -> tuple[str, ...]:
    a, b = before.config, after.config
    return tuple(key for key in a if key in b and a[key] != b[key])


def _in_words(pair: Pair) -> str:
    metric = "" if pair.metric == "mAP" else f" {pair.metric}"
    a, b = pair.values
    if pair.delta is not None:
        text = f"{pair.before} to {pair.after}{metric} {pair.delta:+.3f} ({a:.3f} to {b:.3f})"
    elif pair.tells == "neither converged":
        text = f"neither {pair.before} nor {pair.after} converged"
    else:
        text = f"{_one(pair.before, a)}, {_one(pair.after, b)}"
    more = [pair.note] if pair.note else []
    if pair.tells == "as rerun noise":
        more.append("of the size of rerun noise")
    if len(pair.changed) > 1:
        more.append(f"{' and '.join(pair.changed)} change together")
    return text + (f" [{'; '.join(more)}]" if more else "")


def _one(id_: str, value: float | None) -> str:
    return f"{id_} did not converge" if value is None else f"{id_} reached {value:.3f}"
