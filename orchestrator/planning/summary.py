"""What a plan says of its design: cells of each block, what is left out and why, what a fraction
cannot tell apart, and in what the arms differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.sweep.axes import Label, text_of
from orchestrator.sweep.design import Block, Screen
from orchestrator.sweep.expand import Cell
from orchestrator.sweep.fractional import ROMAN, named, sign
from orchestrator.sweep.reference import Reference
from orchestrator.sweep.rules import Excluded

MOST_ARMS = 60
"""So many are shown as text."""


def blocks_json(blocks: Iterable[Block], cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Of each block its arms and cells among `cells`; a cell can be in several."""
    out = []
    for block in blocks:
        mine = [cell for cell in cells if block.id in cell.blocks]
        out.append(
            {
                "id": block.id,
                "kind": block.kind,
                "seeds": list(block.seeds),
                "arms": len({cell.arm_label for cell in mine}),
                "cells": len(mine),
                "names": {cell.arm_label: cell.name for cell in mine if cell.name},
            }
        )
    return out


def excluded_json(excluded: Iterable[Excluded]) -> list[dict[str, Any]]:
    return [
        {"label": e.label, "axes": dict(e.axes), "blocks": list(e.blocks), "why": e.why}
        for e in excluded
    ]


def aliases_json(blocks: Iterable[Block], excluded: Sequence[Excluded]) -> list[dict[str, Any]]:
    """Of each fractional block what it confounds; `-` before an effect: with the sign turned."""
    return [
        {
            "block": block.id,
            "factors": {n: [v.label for v in pair] for n, pair in block.screen.levels.items()},
            "runs": len(block.runs),
            "excluded": sum(block.id in e.blocks for e in excluded),
            "resolution": ROMAN[block.screen.fraction.resolution],
            "generators": _generators(block.screen),
            "defining": [
                _signed(sign(word), word, block.screen) for word in block.screen.fraction.defining()
            ],
            "aliases": [
                {
                    "effect": named(effect, list(block.screen.levels)),
                    "with": [_signed(s, other, block.screen) for s, other in same],
                }
                for effect, same in block.screen.fraction.aliases()
            ],
        }
        for block in blocks
        if block.screen is not None
    ]


def blocks_text(blocks: Sequence[Block], cells: Sequence[Cell]) -> list[str]:
    rows = [
        (b["id"], b["kind"], f"{b['arms']} arms", f"{b['cells']} cells")
        for b in blocks_json(blocks, cells)
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}"
        for a, b, c, d in rows
    ]
    return ["Blocks of the design (a cell can be in several):", *lines]


def excluded_text(excluded: Iterable[Excluded], baseline: Mapping[str, Label]) -> list[str]:
    """One line for each reason, an arm by the levels that are not the baseline's."""
    by_reason: dict[str, list[str]] = {}
    for arm in excluded:
        changed = [f"{n}={text_of(v)}" for n, v in arm.axes.items() if v != baseline[n]]
        by_reason.setdefault(arm.why, []).append(" ".join(changed))
    return [f"left out: {', '.join(arms)}: {why}" for why, arms in by_reason.items()]


def aliases_text(blocks: Iterable[Block], excluded: Sequence[Excluded]) -> list[str]:
    lines = []
    for screen in aliases_json(blocks, excluded):
        factors = len(screen["factors"])
        lines += [
            f"Block {screen['block']}: {screen['runs']} of {2**factors} runs, resolution "
            f"{screen['resolution']}, {', '.join(screen['generators'])}; "
            "what it cannot tell apart (low = -1, high = +1):"
        ]
        if screen["excluded"]:
            lines.append(
                f"  {screen['excluded']} of its runs are left out: the block is not balanced, and "
                "this table holds for the whole one only"
            )
        effects = screen["aliases"]
        width = max(len(entry["effect"]) for entry in effects)
        lines += [f"  {e['effect']:<{width}} = {' = '.join(e['with'])}" for e in effects]
    return lines


def _generators(screen: Screen) -> list[str]:
    names = list(screen.levels)
    made = screen.fraction
    return [
        f"{names[made.base + i]} = {_signed(-sign(word), word, screen)}"
        for i, word in enumerate(made.generators)
    ]


def _signed(value: int, word: frozenset[int], screen: Screen) -> str:
    return ("" if value > 0 else "-") + named(word, list(screen.levels))


def arms_text(
    cells: Iterable[Cell],
    baseline: Mapping[str, Label],
    differences: Callable[[Cell], Mapping[str, str]],
    reference: Reference,
    metric: str,
    about: Mapping[str, Sequence[str]],
) -> list[str]:
    """Each arm with the row it repeats, the settings in which it differs from the baseline, and
    the lines that `about` has of it; of very many arms the first ones."""
    lines = ["Arms, and what sets them apart from the baseline:"]
    if reference.rows:
        lines.append(f"(rows of: {reference.source})")
    arms = list({cell.arm_label: cell for cell in cells}.values())
    for cell in arms[:MOST_ARMS]:
        row = reference.of(list(cell.axes.values()))
        score = ""
        if row is not None:
            known = f"{metric} " if row.converged and metric in row.metrics else ""
            score = f"  [{row.id} {row.label}: {known}{row.score(metric)}]"
        what = "baseline" if cell.axes == baseline else "no setting differs"
        called = f"  {cell.name!r}" if cell.name else ""
        lines.append(f"  {cell.arm_label}{called}{score}")
        changed = "; ".join(f"{path} {value}" for path, value in differences(cell).items())
        lines.append(f"      {changed or what}")
        lines += [f"      {line}" for line in about.get(cell.arm_label, ())]
    if arms[MOST_ARMS:]:
        lines.append(f"  and {len(arms) - MOST_ARMS} more arms; --json has all cells")
    return lines
