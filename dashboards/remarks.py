"""What stands beneath a table: how it is to be read, what is left out, and where its numbers come
from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dashboards.digits import written
from dashboards.plain import plain

Document = Mapping[str, Any]

ALIASES = 12  # effects of a fractional block that are told; all are in JSON
INDEPENDENT = (
    "intervals of effects and interactions take the noise of two arms in one seed to be "
    "independent once the seed itself is taken out: if a level did something of its own to a seed "
    "in all of its arms, they would be too narrow"
)


def remarks(
    document: Document, name: str, compared: Mapping[str, Any] | None, others: Sequence[str]
) -> Iterable[str]:
    """One line each. `name`: the metric of the table, with `compared` on it (None: nothing is);
    `others` stand beside it without a verdict."""
    target = document["target"]["name"]
    state = document["sweep"]["state"]
    if state != "finished":
        yield f"the sweep is not finished ({plain(state)})"
    yield (
        "n: settled cells of those planned; numbers are mean ± standard deviation over the seeds "
        "that converged"
    )
    if compared:
        yield from _how_compared(document, compared)
    else:
        yield "there is no baseline with cells: nothing is compared"
    if compared and name != target:
        yield (
            f"the sweep decides by {plain(target)}: the error rates above are those of one table, "
            f"and looking at {plain(name)} as well adds to them"
        )
    yield from _families(document)
    yield from _over_images(document, compared)
    if others:
        verb = "has" if len(others) == 1 else "have"
        listed = ", ".join(map(plain, others))
        yield f"{listed} {verb} no verdict: differences there are not adjusted claims"
    yield from _left_out(document)
    for screen in document["aliases"]:
        yield from _aliased(screen)
    yield from (f"caution: {plain(text)}" for text in document["cautions"])


def _over_images(document: Document, compared: Mapping[str, Any] | None) -> Iterable[str]:
    """Beneath arms of which one seed tells nothing."""
    from dashboards.inference import ONE_SEED  # with scipy, which takes a second

    if document["images"]:
        said = (one["text"] for one in document["conclusions"] if one["kind"] == "images")
        yield from map(plain, said)
    elif compared and any(c["why"] == ONE_SEED for c in compared["arms"].values()):
        yield "with one seed: --images tells how much a difference depends on the images"


def _how_compared(document: Document, compared: Mapping[str, Any]) -> Iterable[str]:
    label = next(a["label"] for a in document["arms"] if a["key"] == document["baseline"])
    variances = {
        "equal": "one variance for all arms",
        "unequal": "a variance for each arm, its own drawn towards that of all",
    }
    yield (
        f"differences are to the baseline ({plain(label)}), paired by seed; intervals hold at once "
        f"for all arms (Dunnett), with {variances[compared['variances']]}"
    )
    rates = (
        f"any false claim of better or worse in at most {percent(compared['level'])} of such tables"
    )
    if compared["min_effect"] is not None:
        rates += (
            f"; a difference of {written(compared['min_effect'])} or more is called not separable "
            f"in at most {percent(compared['miss'])} of cases"
        )
    yield rates
    if document["looks"]:
        looks = ", ".join(map(str, document["looks"]))
        yield (
            "arms get more seeds while their verdict is open, which is looked at with "
            f"{looks} seeds: intervals and rates hold for all looks together"
        )


def percent(share: float) -> str:
    return f"{100 * share:g} %"


def _families(document: Document) -> Iterable[str]:
    """Arms, effects and interactions are adjusted each for themselves, and read together."""
    from dashboards.inference import LEVEL  # with scipy, which takes a second

    effects = [e for e in document["effects"] if e["basis"] == "fraction" or e["planned"] > 1]
    told = {
        "arms": bool(document["comparisons"]),
        "effects of levels": bool(effects),
        "interactions": bool(document["interactions"]),
    }
    families = [name for name, there in told.items() if there]
    if len(families) > 1:
        number = "two" if len(families) == 2 else "three"
        listed = f"{', '.join(families[:-1])} and {families[-1]}"
        yield (
            f"conclusions are of {number} families, {listed}: each has any false claim in at most "
            f"{percent(LEVEL)} of sweeps, all together in up to {percent(len(families) * LEVEL)}"
        )
    if effects:
        yield INDEPENDENT


def _left_out(document: Document) -> Iterable[str]:
    """One line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for arm in document["excluded"]:
        by_reason.setdefault(plain(arm.get("why", "")), []).append(plain(arm.get("label", "")))
    for why, labels in by_reason.items():
        yield f"left out: {', '.join(labels)}" + (f": {why}" if why else "")


def _aliased(screen: Mapping[str, Any]) -> Iterable[str]:
    """What a fractional design cannot tell apart."""
    effects = [
        " = ".join([plain(e["effect"]), *map(plain, e["with"])])
        for e in screen.get("aliases", ())
        if e["with"]
    ]
    if not effects:
        return
    more = f"; and {len(effects) - ALIASES} more" if len(effects) > ALIASES else ""
    yield (
        f"aliased: block {plain(screen['block'])} (resolution {plain(screen['resolution'])}) "
        f"cannot tell apart {'; '.join(effects[:ALIASES])}{more}"
    )


def _named(what: str, values: Sequence[str]) -> str:
    if not values:
        return f"{what} not known"
    many = "s" if len(values) > 1 and what != "data" else ""
    return f"{what}{many} {', '.join(map(_short, values))}"


def _short(text: str) -> str:
    """A digest in as many letters as tell it apart."""
    return text[:12] if re.fullmatch(r"[0-9a-f]{16,}", text) else plain(text)


def provenance_line(document: Document) -> str:
    """Where the numbers come from, on one line."""
    found, totals = document["provenance"], document["totals"]
    many = totals["cells"] != 1
    parts = [f"{totals['cells']} cell{'s' * many}, {totals['settled']} settled"]
    if document["seeds"]:
        seeds = ", ".join(map(str, document["seeds"]))
        parts.append(f"seed{'s' * (len(document['seeds']) != 1)} {seeds}")
    if document["sweep"]["run_id"]:
        parts.append(f"MLflow run {_short(document['sweep']['run_id'])}")
    digest = found["sweep_sha256"]
    parts.append(f"sweep sha256 {_short(digest)}" if digest else "sweep hash not known")
    dirty = " with uncommitted changes" if found["uncommitted_changes"] else ""
    parts.append(_named("commit", found["commits"]) + dirty)
    parts.append(_named("data", found["data"]))
    hours = f"{found['gpu_hours']:.2f} GPU-hours"
    if not found["gpu_hours"]:  # trained on CPUs
        hours += f" ({totals['train_hours']:.2f} hours of training)"
    parts.append(hours)
    return "; ".join(parts)
