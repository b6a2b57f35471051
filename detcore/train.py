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
from contextlib import nullcontext
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detcore import checkpoint
from detcore.config import CODE_VERSION, Config, identity_dict, to_dict
from detcore.convergence import ConvergenceMonitor, Verdict
from detcore.curves import Curves, LateReader, Report
from detcore.data.coco import CocoSplit
from detcore.data.fingerprint import data_fingerprint
from detcore.data.loader import train_batches
from detcore.data.resized import open_resized
from detcore.detectors import Detector
from detcore.distributed import Gang, pick_device
from detcore.evaluate import check_backend
from detcore.measure import Meter, PeakMemory
from detcore.precision import autocast, normalise
from detcore.predict import Evaluation, evaluate
from detcore.result import METRICS, Result
from detcore.schedule import learning_rate
from detcore.setup import build_optimizer, first_detector, open_splits

THREADS = torch.get_num_threads()  # as many as torch takes by itself


def stats_of(detector: Detector) -> tuple[str, ...]:
    """What `train_step` returns of this detector."""
    return ("loss/total", *(f"loss/{part}" for part in detector.parts), "grad_norm", "stop")


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
    if on_gpu and config.runtime.channels_last:
        detector = detector.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(detector, config)
    monitor = ConvergenceMonitor(config.monitor, config.train.steps)
    forward = _parallel(detector, config, gang, device)
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
        for earlier in ("result.json", "detections.json", "matches.npz"):
            (workdir / earlier).unlink(missing_ok=True)
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

    def evaluate_now(step: int) -> Evaluation:
        with meter.paused():
            found = evaluate(
                detector, val_split, config, gang, device, workdir / "detections.json", alive
            )
        points.add(step, found.metrics)
        return found

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
    late = LateReader(gang, stats_of(detector))
    verdict: Verdict | None = None
    stopped = False
    newest: Evaluation | None = None
    step = first_step
    detector.train()
    while step < config.train.steps:
        lr = learning_rate(config.schedule, config.optim.lr, step, config.train.steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        torch.manual_seed(step_seed(config.seed, step, gang.rank))
        detector.set_progress(step / config.train.steps)
        stats = train_step(forward, detector, optimizer, batches, config, device, meter, gang)
        stats[-1] = float(alive())
        verdict, stopped = _read(late.exchange(step, stats), monitor, points, meter, config)
        step += 1
        if verdict or stopped:
            break
        last = step == config.train.steps
        looks = monitor.due(step - 1) or (config.eval.every and step % config.eval.every == 0)
        every = config.runtime.checkpoint_every
        saves = every and (last or step % every == 0)
        if last or looks or saves:  # what is saved or evaluated must have been judged first
            verdict, stopped = _read(late.drain(), monitor, points, meter, config)
            if verdict or stopped:
                break
        if looks and not last:
            newest = evaluate_now(step)
            verdict = monitor.progress(step - 1, newest.metrics["mAP"])
            if verdict:
                break
        if saves:  # the last step's are the weights that are scored
            save(step)

    meter.stop()
    rest = late.drain()  # the last step is in flight when the one before it ends the loop
    if stopped and verdict is None:
        verdict, _ = _read(rest, monitor, points, meter, config)
    if stopped and verdict is None:
        save(step)
        result = Result("cancelled", f"stopped on request after step {step}", step)
    else:
        if verdict is None:
            newest = evaluate_now(step)
            verdict = monitor.final(step, newest.metrics["mAP"])
        result = Result(verdict.outcome, verdict.reason, verdict.step, evidence=verdict.evidence)
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


def train_step(
    forward: nn.Module,
    detector: Detector,
    optimizer: torch.optim.Optimizer,
    batches: Any,
    config: Config,
    device: torch.device,
    meter: Meter,
    gang: Gang,
) -> torch.Tensor:
    """One optimiser step over `accumulate` forward passes; returns the `stats_of` this rank, on
    device."""
    accumulate = config.train.accumulate
    parts = torch.zeros(len(detector.parts), device=device)
    for i in range(accumulate):
        with meter.waiting():
            batch = next(batches).to(device)
        images = normalise(batch.images)
        if config.runtime.channels_last and device.type == "cuda":
            images = images.contiguous(memory_format=torch.channels_last)
        holds = isinstance(forward, DistributedDataParallel) and i + 1 < accumulate
        with forward.no_sync() if holds else nullcontext():  # type: ignore[operator]
            with autocast(config.train.amp, device):
                outputs = forward(images)
            losses = detector.losses(outputs, batch.boxes, batch.labels, gang)
            terms = torch.stack([losses[part] for part in detector.parts]) / accumulate
            terms.sum().backward()
        parts += terms.detach()
    grads = [p.grad for p in detector.parameters() if p.grad is not None]
    grad_norm = nn.utils.get_total_norm(grads, foreach=True)
    if config.optim.clip_norm:
        nn.utils.clip_grads_with_norm_(
            detector.parameters(), config.optim.clip_norm, grad_norm, foreach=True
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return torch.cat((parts.sum().view(1), parts, grad_norm.view(1), parts.new_zeros(1)))


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of what is drawn inside step `step` (DropBlock ...): a run resumes from its step
    number alone, and ranks draw different numbers."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> 1)


def _parallel(detector: nn.Module, config: Config, gang: Gang, device: torch.device) -> nn.Module:
    """`detector` compiled and with its gradients averaged over the ranks, where that applies.

    Buffers are left to each rank: its own running statistics (see `averaged_buffers`).
    """
    forward = detector
    if device.type == "cuda" and config.runtime.compile:
        forward = torch.compile(detector)  # type: ignore[assignment]
    if gang.world == 1:
        return forward
    # torch 2.15 renamed the option
    new = "forward_sync_buffers" in signature(DistributedDataParallel.__init__).parameters
    buffers: Any = {"forward_sync_buffers" if new else "broadcast_buffers": False}
    return DistributedDataParallel(forward, gradient_as_bucket_view=True, **buffers)


def _read(
    seen: tuple[int, dict[str, float]] | None,
    monitor: ConvergenceMonitor,
    points: Curves,
    meter: Meter,
    config: Config,
) -> tuple[Verdict | None, bool]:
    """Judge and record one step's statistics: the verdict, and whether a rank was asked to stop."""
    if seen is None:
        return None, False
    step, named = seen
    stop = named.pop("stop") > 0
    verdict = monitor.observe(step, named["loss/total"], named["grad_norm"])
    meter.step_done()
    if verdict or step % config.runtime.log_every == 0 or step + 1 == config.train.steps:
        lr = learning_rate(config.schedule, config.optim.lr, step, config.train.steps)
        points.add(step, {**named, "lr": lr, **meter.rates()})
    return verdict, stop


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
