"""`--smoke`: two steps and a few scored images of every arm, on the gangs that its cells will have,
before hours are spent on it. What comes of it counts nowhere: it has a store and folders of its
own, which the next smoke run begins anew.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from detcore.config import Config
from detcore.config.schema import CocoFolder, Shapes
from detcore.data.folder import find_annotations, read_coco_json
from orchestrator.answers import EXIT_FAULTS, EXIT_OK, print_text, speaker
from orchestrator.planning.plan import Plan, Planned
from orchestrator.planning.preflight import check_effects
from orchestrator.planning.shortened import shortened
from orchestrator.running.control import Control
from orchestrator.running.lock import alone
from orchestrator.running.recorder import Recorder
from orchestrator.running.standing import Status, look
from orchestrator.sweep.expand import Cell
from orchestrator.sweep.identity import cell_id
from orchestrator.tracking.attempts import open_records
from orchestrator.tracking.table import WAITING

STEPS, TRAINED_ON, SCORED = 2, 64, 8  # steps, images of drawn shapes to train on, images scored
WORDS = {"converged": "ok"}  # two steps have not learned anything

Train = Callable[[Plan, Recorder, Control, Console], object]


def smoke(plan: Plan, screen: Console, train: Train) -> int:
    """Run every arm of `plan` for a moment and print how it went, a line each; the exit code, 1 if
    one failed. `train` trains what is missing in a plan."""
    from orchestrator.tracking.ledger import open_ledger

    place = plan.folder.parent / "smoke"
    name = plan.sweep.name
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # no server hears of it
    with alone(place, name):
        say = speaker(screen)
        if checked := check_effects(plan):
            say(checked)
        root = place / name
        shutil.rmtree(root, ignore_errors=True)
        tiny = smoke_plan(plan, root)
        ledger = open_ledger(name, root)
        ledger.say = say
        with (
            Control(root, name, tiny.cells, say=say) as control,
            Recorder(ledger, tiny, screen, words=WORDS) as recorder,
        ):
            train(tiny, recorder, control, screen)
        status = look(tiny, open_records(root))
        failed = [row for row in status.rows if row.outcome != "converged"]
        print_text(told(status))
        if failed:
            say(f"Files of the cells (logs, tracebacks):\n  {tiny.folder}")
    return EXIT_FAULTS if failed else EXIT_OK


def smoke_plan(plan: Plan, root: Path) -> Plan:
    """One small cell of every arm, with files below `root`; arms whose values are still to be tuned
    have the ones to begin with. Retries and the abort of `failure` are off: each arm is to be
    heard."""
    first: dict[str, Planned] = {}
    for planned in plan.cells:
        if planned.cell.role == "report":
            first.setdefault(planned.cell.arm_label, planned)
    scored: dict[CocoFolder, CocoFolder] = {}
    cells = tuple(_small(planned, root, scored) for planned in first.values())
    failure = replace(plan.sweep.failure, retries={}, abort_after=math.inf)
    return replace(
        plan,
        sweep=replace(plan.sweep, failure=failure, seeds=plan.sweep.seeds[:1], notify=None),
        cells=cells,
        everything=cells,
        more=(),
        tuning=None,
        choices=(),
        folder=root / "mlruns" / "cells",
        settled={},
        left={},
    )


def told(status: Status) -> str:
    """A line for every arm: `ok` or `failed`, and why."""
    lines = []
    for planned, row in zip(status.plan.cells, status.rows, strict=True):
        arm, attempt = planned.cell.arm_label, status.attempts.get(row.id)
        if row.outcome == "converged":
            seconds = (attempt.ended or attempt.began) - attempt.began if attempt else 0.0
            lines.append(f"ok      {arm}  ({STEPS} steps, scored; {seconds:.0f} s)")
        elif row.outcome == WAITING:
            lines.append(f"failed  {arm}: it was not started")
        else:
            reason = row.reason.partition("\n")[0]
            lines.append(f"failed  {arm}: {row.outcome}: {reason}")
    failed = sum(line.startswith("failed") for line in lines)
    return "\n".join([*lines, f"{len(lines) - failed} of {len(lines)} arms ok"])


def _small(planned: Planned, root: Path, scored: dict[CocoFolder, CocoFolder]) -> Planned:
    cell: Cell = planned.cell
    config = _small_config(cell.config, root, scored)
    # arms that differ only in what is made small here are still two
    id = cell_id(config, f"{planned.fingerprint} {cell.arm_label}")
    return Planned(id, replace(cell, config=config), planned.fingerprint)


def _small_config(config: Config, root: Path, scored: dict[CocoFolder, CocoFolder]) -> Config:
    source = config.data.source
    if isinstance(source, Shapes):
        source = replace(
            source,
            train_images=min(source.train_images, TRAINED_ON),
            val_images=min(source.val_images, SCORED),
        )
    else:
        if source not in scored:
            scored[source] = _first_images(source, root / f"val{len(scored)}.json")
        source = scored[source]
    config = shortened(config, STEPS)
    return replace(
        config,
        data=replace(config.data, source=source, holdout=0.0),
        # after two steps no arm has learned; what has an end is what is asked
        monitor=replace(config.monitor, min_map=0.0),
        runtime=replace(config.runtime, log_every=1),
    )


def _first_images(source: CocoFolder, file: Path) -> CocoFolder:
    """`source` with its first images to score, those with boxes before others. Raises DataError."""
    annotations = read_coco_json(find_annotations(source, "val"))
    with_boxes = {a["image_id"] for a in annotations["annotations"]}
    images = sorted(annotations["images"], key=lambda image: image["id"] not in with_boxes)
    images = images[:SCORED]
    ids = {image["id"] for image in images}
    boxes = [a for a in annotations["annotations"] if a["image_id"] in ids]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**annotations, "images": images, "annotations": boxes}))
    return replace(source, val_annotations=str(file))
