"""Train one cell and say how it ended.

    python -m detcore.train CONFIG.yaml [a.b=c ...] [--workdir DIR]
    torchrun --nproc-per-node 2 -m detcore.train CONFIG.yaml [a.b=c ...]

The first starts as many processes as `train.workers` says; under torchrun the two must agree.

The loop never waits for the device inside a step: losses, gradient norms and stop requests are
summed over the ranks in the background and read one step late, by every rank alike, so that all
ranks take the same decision at the same step.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch import nn

from detcore import checkpoint
from detcore.config import CODE_VERSION, Config, identity_dict, to_dict
from detcore.config.installed import check_backend
from detcore.convergence import ConvergenceMonitor, Verdict
from detcore.curves import Curves, LateReader, Report
from detcore.data.coco import CocoSplit
from detcore.data.fingerprint import data_fingerprint
from detcore.data.loader import train_batches
from detcore.data.resized import open_resized
from detcore.distributed import Gang, pick_device
from detcore.evaluations import Evaluations
from detcore.measure import Meter, PeakMemory
from detcore.result import METRICS, Result
from detcore.schedule import learning_rate
from detcore.setup import build_optimizer, first_detector, open_splits
from detcore.step import flagged, parallel, stats_of, step_seed, train_step

THREADS = torch.get_num_threads()  # as many as torch takes by itself


def train(
    config: Config,
    *,
    workdir: Path,
    gang: Gang | None = None,
    report: Report | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Result:
    """Train `config` in `workdir`, going on from the checkpoint there; every rank of the gang calls
    this, all get the result.

    `report` is called on rank 0 with the points of the curves. `should_stop` is asked on every rank
    each step; when any rank's says yes, all save a checkpoint and end with the outcome `cancelled`.
    Rank 0 leaves in `workdir`: config.yaml, metrics.jsonl, detections.json, matches.npz,
    checkpoint.pt and result.json.

    Raises ValueError for what the user can mend (data, weights, device, number of ranks).
    """
    gang = gang or Gang()
    if gang.world != config.train.workers:
        raise ValueError(
            f"train.workers is {config.train.workers}, but {gang.world} processes take part"
        )
    check_backend(config.runtime.coco_eval)
    device = pick_device(config.runtime.device, gang)
    # a process may train one cell after the other: what one asked for is not the next one's
    torch.set_num_threads(config.runtime.threads or THREADS)
    memory = PeakMemory(device)
    workdir.mkdir(parents=True, exist_ok=True)
    train_split, val_split = (
        replace(split, resized=open_resized(split, config.data, config.runtime.cache_gb))
        for split in open_splits(config.data)
    )
    detector = first_detector(config, train_split).to(device)
    on_gpu = device.type == "cuda"
    if config.runtime.channels_last:
        detector = detector.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(detector, config)
    monitor = ConvergenceMonitor(config.monitor, config.train.steps)
    forward = parallel(detector, config, gang, device)
    key = json.dumps([CODE_VERSION, data_fingerprint(config.data.source), identity_dict(config)])
    resumed = checkpoint.load(  # after DDP is built, which may copy rank 0's buffers to all
        workdir / "checkpoint.pt",
        model=detector,
        optimizer=optimizer,
        key=key,
        gang=gang,
        device=device,
    )
    first_step, seconds_before = 0, 0.0
    if resumed:
        first_step, seconds_before, monitor_state = resumed
        monitor.restore(monitor_state)
    if len(starts := set(gang.gather(first_step))) > 1:
        raise ValueError(
            f"{workdir}: the workers see different checkpoints (steps {sorted(starts)}); "
            "the folder must be shared by all nodes"
        )

    points = Curves(workdir / "metrics.jsonl", first_step, gang, report)
    if gang.is_first:
        of_earlier = ("result.json", "*detections.json*", "*matches.npz*")  # torn ones, too
        for file in [file for name in of_earlier for file in workdir.glob(name)]:
            file.unlink(missing_ok=True)
        (workdir / "config.yaml").write_text(yaml.safe_dump(to_dict(config), sort_keys=False))

    def alive() -> bool:
        return should_stop is not None and should_stop()

    def save(step: int) -> None:
        checkpoint.save(
            workdir / "checkpoint.pt",
            step=step,
            model=detector,
            optimizer=optimizer,
            monitor=monitor.state(),
            seconds=seconds_before + meter.seconds,
            key=key,
            gang=gang,
            device=device,
        )

    def is_look(step: int) -> bool:
        """Whether the run is evaluated on its way after `step` steps."""
        every = config.eval.every
        due = monitor.due(step - 1) or (every and step % every == 0)
        return bool(due) and 0 < step < config.train.steps

    def look(step: int, last: bool = False) -> Verdict | None:
        """Evaluate; unless the score is made beside training, wait for it."""
        beside = evaluations.beside and not last
        with meter.paused():
            evaluations.begin(detector, step, beside)
        return None if beside else settle()

    def settle() -> Verdict | None:
        """Wait for the evaluation that has begun, if one has; `stalled` where it is too low."""
        with meter.paused():
            ended = evaluations.end()
        if ended is None:
            return None
        at, found = ended
        points.add(at, found.metrics)
        return monitor.progress(at - 1, found.metrics["mAP"])

    batches = train_batches(
        train_split,
        config.data,
        seed=config.seed,
        batch=config.train.batch_per_gpu,
        rank=gang.rank,
        world=gang.world,
        start_step=first_step * config.train.accumulate,
        workers=config.runtime.loader_workers,
        pin_memory=on_gpu,
    )
    meter = Meter(config.train.batch_per_gpu * config.train.accumulate * gang.world)
    late = LateReader(gang, (*stats_of(detector), "stop", "scored"))
    seen = Seen()
    step = first_step
    detector.train()
    with Evaluations(
        val_split, config, gang, device, workdir / "detections.json", alive
    ) as evaluations:
        # its score may not have been there when the checkpoint was written
        stalled = look(step) if is_look(step) else None
        while stalled is None and step < config.train.steps:
            lr = learning_rate(config.schedule, config.optim.lr, step, config.train.steps)
            for group in optimizer.param_groups:
                group["lr"] = lr
            torch.manual_seed(step_seed(config.seed, step, gang.rank))
            detector.set_progress(step / config.train.steps)
            stats = train_step(forward, detector, optimizer, batches, config, device, meter, gang)
            stats = flagged(stats, alive(), evaluations.ready)
            seen = _read(late.exchange(step, stats), monitor, points, meter, config)
            step += 1
            if seen.verdict or seen.stopped:
                break
            last = step == config.train.steps
            every = config.runtime.checkpoint_every
            saves = every and (last or step % every == 0)
            pauses = last or is_look(step) or saves
            if pauses:  # what is saved or evaluated must have been judged first
                seen = _read(late.drain(), monitor, points, meter, config)
                if seen.verdict or seen.stopped:
                    break
            if (pauses or seen.scored) and (stalled := settle()):
                break
            if is_look(step) and (stalled := look(step)):
                break
            if saves:  # the last step's are the weights that are scored
                save(step)

        meter.stop()
        rest = late.drain()  # the last step is in flight when the one before it ends the loop
        if seen.stopped and seen.verdict is None:
            seen = seen._replace(verdict=_read(rest, monitor, points, meter, config).verdict)
        # an evaluation came before whatever else ended the run
        verdict = stalled or settle() or seen.verdict
        if seen.stopped and verdict is None:
            save(step)
            result = Result("cancelled", f"stopped on request after step {step}", step)
        else:
            if verdict is None:
                look(step, last=True)
                assert evaluations.newest is not None
                verdict = monitor.final(step, evaluations.newest.metrics["mAP"])
            result = Result(
                verdict.outcome, verdict.reason, verdict.step, evidence=verdict.evidence
            )
        newest = evaluations.newest
    values = _values(meter, memory, detector, train_split, val_split, seconds_before, gang)
    scores, class_AP = {}, {}
    if newest:
        scores = {name: newest.metrics[name] for name in METRICS}
        values["eval_s_per_img"] = newest.s_per_img
        values |= {name: v for name, v in newest.metrics.items() if name not in METRICS}
        class_AP = newest.class_AP
    result = replace(result, metrics=scores, values=values, class_AP=class_AP)
    points.close()
    if gang.is_first:
        _write_json(workdir / "result.json", result.to_json())
    return result


class Seen(NamedTuple):
    """What one step's statistics say: the verdict, whether a rank was asked to stop, and whether
    the evaluation that has begun is scored."""

    verdict: Verdict | None = None
    stopped: bool = False
    scored: bool = False


def _read(
    seen: tuple[int, dict[str, float]] | None,
    monitor: ConvergenceMonitor,
    points: Curves,
    meter: Meter,
    config: Config,
) -> Seen:
    """Judge and record one step's statistics."""
    if seen is None:
        return Seen()
    step, named = seen
    stopped, scored = named.pop("stop") > 0, named.pop("scored") > 0
    verdict = monitor.observe(step, named["loss/total"], named["grad_norm"])
    meter.step_done()
    if verdict or step % config.runtime.log_every == 0 or step + 1 == config.train.steps:
        lr = learning_rate(config.schedule, config.optim.lr, step, config.train.steps)
        points.add(step, {**named, "lr": lr, **meter.rates()})
    return Seen(verdict, stopped, scored)


def _values(
    meter: Meter,
    memory: PeakMemory,
    detector: nn.Module,
    train_split: CocoSplit,
    val_split: CocoSplit,
    seconds_before: float,
    gang: Gang,
) -> dict[str, float]:
    """The scalars beside the 12 metrics."""
    return {
        "train_hours": (seconds_before + meter.seconds) / 3600,
        **meter.overall(),
        "peak_mem_gb": max(gang.gather(memory.peak_gb())),
        "params_m": sum(p.numel() for p in detector.parameters()) / 1e6,
        "dropped_boxes": float(train_split.dropped_boxes + val_split.dropped_boxes),
        "skipped_images": float(len(train_split.skipped_images) + len(val_split.skipped_images)),
    }


def _write_json(path: Path, data: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(data, indent=1))
    partial.replace(path)


if __name__ == "__main__":
    from detcore.cli import main

    raise SystemExit(main())
