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
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detcore import checkpoint
from detcore.config import Config, identity_dict, to_dict
from detcore.convergence import ConvergenceMonitor, Verdict
from detcore.data.coco import CocoSplit, open_split
from detcore.data.loader import train_batches
from detcore.detectors import RetinaNet, build_detector
from detcore.distributed import Gang, pick_device
from detcore.measure import Meter, PeakMemory
from detcore.precision import autocast, normalise
from detcore.predict import evaluate
from detcore.result import Point, Result
from detcore.schedule import learning_rate

Report = Callable[[Point], None]
STATS = ("loss/total", "loss/class", "loss/box", "grad_norm", "stop")


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
    Rank 0 leaves in `workdir`: config.yaml, metrics.jsonl, detections.json, checkpoint.pt and
    result.json.

    Raises ValueError for what the user can mend (data, weights, device, number of ranks).
    """
    gang = gang or Gang()
    if gang.world != config.train.workers:
        raise ValueError(
            f"train.workers is {config.train.workers}, but {gang.world} processes take part"
        )
    device = pick_device(config.runtime.device, gang)
    if config.runtime.threads:
        torch.set_num_threads(config.runtime.threads)
    memory = PeakMemory(device)
    workdir.mkdir(parents=True, exist_ok=True)
    train_split = open_split(config.data, "train")
    val_split = open_split(config.data, "val")

    torch.manual_seed(config.seed)
    detector = build_detector(config.model, len(train_split.category_ids)).to(device)
    on_gpu = device.type == "cuda"
    if on_gpu and config.runtime.channels_last:
        detector = detector.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(detector, config)
    monitor = ConvergenceMonitor(config.monitor, config.train.steps)
    key = json.dumps(identity_dict(config), sort_keys=True)
    resumed = checkpoint.load(
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
    forward: nn.Module = detector
    if on_gpu and config.runtime.compile:
        forward = torch.compile(detector)  # type: ignore[assignment]
    if gang.world > 1:
        forward = DistributedDataParallel(
            forward, broadcast_buffers=False, gradient_as_bucket_view=True
        )

    points = _Points(workdir / "metrics.jsonl", first_step, gang, report)
    if gang.is_first:
        (workdir / "result.json").unlink(missing_ok=True)  # an earlier attempt's
        (workdir / "config.yaml").write_text(yaml.safe_dump(to_dict(config), sort_keys=False))

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

    def evaluate_now(step: int) -> tuple[dict[str, float], float]:
        with meter.paused():
            metrics, eval_s_per_img = evaluate(
                detector, val_split, config, gang, device, workdir / "detections.json"
            )
        points.add(step, metrics)
        return metrics, eval_s_per_img

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
    late = _LateReader(gang)
    verdict: Verdict | None = None
    stopped = False
    metrics: dict[str, float] = {}
    eval_s_per_img = 0.0
    step = first_step
    detector.train()
    while step < config.train.steps:
        lr = learning_rate(config.schedule, config.optim.lr, step, config.train.steps)
        for group in optimizer.param_groups:
            group["lr"] = lr
        stats = train_step(forward, detector, optimizer, batches, config, device, meter, gang)
        stats[-1] = float(should_stop is not None and should_stop())
        verdict, stopped = _read(late.exchange(step, stats), monitor, points, meter, config)
        step += 1
        if verdict or stopped:
            break
        last = step == config.train.steps
        looks = monitor.due(step - 1) or (config.eval.every and step % config.eval.every == 0)
        saves = config.train.checkpoint_every and step % config.train.checkpoint_every == 0
        if last or looks or saves:  # what is saved or evaluated must have been judged first
            verdict, stopped = _read(late.drain(), monitor, points, meter, config)
            if verdict or stopped:
                break
        if looks and not last:
            metrics, eval_s_per_img = evaluate_now(step)
            verdict = monitor.progress(step - 1, metrics["mAP"])
            if verdict:
                break
        if saves:
            save(step)

    meter.stop()
    rest = (
        late.drain()
    )  # the last step: in flight still when its forerunner's numbers ended the loop
    if stopped and verdict is None:
        verdict, _ = _read(rest, monitor, points, meter, config)
    if stopped and verdict is None:
        save(step)
        result = Result("cancelled", f"stopped on request after step {step}", step)
    else:
        if verdict is None:
            metrics, eval_s_per_img = evaluate_now(step)
            verdict = monitor.final(step, metrics["mAP"])
        result = Result(
            verdict.outcome, verdict.reason, verdict.step, metrics, evidence=verdict.evidence
        )
    values = _values(meter, memory, detector, train_split, val_split, seconds_before, gang)
    if metrics:
        values["eval_s_per_img"] = eval_s_per_img
    result = Result(**{**vars(result), "values": values})
    points.close()
    if gang.is_first:
        _write_json(workdir / "result.json", result.to_json())
    return result


def train_step(
    forward: nn.Module,
    detector: RetinaNet,
    optimizer: torch.optim.Optimizer,
    batches: Any,
    config: Config,
    device: torch.device,
    meter: Meter,
    gang: Gang,
) -> torch.Tensor:
    """One optimiser step over `accumulate` forward passes; returns this rank's STATS, on device."""
    accumulate = config.train.accumulate
    parts = torch.zeros(2, device=device)
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
            losses = detector.losses(outputs, batch.boxes, batch.labels)
            divisor = detector.normaliser(losses["num_pos"], gang) * accumulate
            ((losses["class"] + losses["box"]) / divisor).backward()
        parts += torch.stack((losses["class"], losses["box"])).detach() / divisor
    grads = [p.grad for p in detector.parameters() if p.grad is not None]
    grad_norm = nn.utils.get_total_norm(grads, foreach=True)
    if config.optim.clip_norm:
        nn.utils.clip_grads_with_norm_(
            detector.parameters(), config.optim.clip_norm, grad_norm, foreach=True
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return torch.cat((parts.sum().view(1), parts, grad_norm.view(1), parts.new_zeros(1)))


def build_optimizer(detector: nn.Module, config: Config) -> torch.optim.Optimizer:
    """SGD; weight decay on convolution weights only, not on norms and biases (one dimension)."""
    weights = [p for p in detector.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in detector.parameters() if p.requires_grad and p.ndim <= 1]
    optim = config.optim
    return torch.optim.SGD(
        [
            {"params": weights, "weight_decay": optim.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=optim.lr,
        momentum=optim.momentum,
        nesterov=optim.nesterov,
        fused=True,
    )


class _LateReader:
    """Statistics of the gang, one step late: `exchange` starts the sum of this step and returns the
    last step's means."""

    def __init__(self, gang: Gang) -> None:
        self.gang = gang
        self.pending: tuple[int, torch.Tensor, Any, Any] | None = None

    def exchange(self, step: int, stats: torch.Tensor) -> tuple[int, list[float]] | None:
        before = self.drain()
        work = self.gang.sum_later(stats)
        ready = None
        if stats.is_cuda:
            if work is not None:
                work.wait()  # orders the streams; the host goes on
                work = None
            stats = stats.to("cpu", non_blocking=True)
            ready = torch.cuda.Event()
            ready.record()
        self.pending = (step, stats, work, ready)
        return before

    def drain(self) -> tuple[int, list[float]] | None:
        """The statistics of the last exchange, waited for."""
        if self.pending is None:
            return None
        step, stats, work, ready = self.pending
        self.pending = None
        if work is not None:
            work.wait()
        if ready is not None:
            ready.synchronize()
        return step, [v / self.gang.world for v in stats.tolist()]


def _read(
    seen: tuple[int, list[float]] | None,
    monitor: ConvergenceMonitor,
    points: _Points,
    meter: Meter,
    config: Config,
) -> tuple[Verdict | None, bool]:
    """Judge and record one step's statistics: the verdict, and whether a rank was asked to stop."""
    if seen is None:
        return None, False
    step, values = seen
    named = dict(zip(STATS, values, strict=True))
    stop = named.pop("stop") > 0
    verdict = monitor.observe(step, named["loss/total"], named["grad_norm"])
    meter.step_done()
    if verdict or step % config.runtime.log_every == 0 or step + 1 == config.train.steps:
        lr = learning_rate(config.schedule, config.optim.lr, step, config.train.steps)
        points.add(step, {**named, "lr": lr, **meter.rates()})
    return verdict, stop


class _Points:
    """The curves: a line of metrics.jsonl each, and a call of `report`. Only rank 0 writes."""

    def __init__(self, path: Path, first_step: int, gang: Gang, report: Report | None) -> None:
        self.report = report
        self.file = None
        if gang.is_first:
            kept = []  # what a killed attempt wrote after its last checkpoint is written again
            if path.exists() and first_step:
                kept = [ln for ln in path.read_text().splitlines() if _step_of(ln) < first_step]
            path.write_text("".join(line + "\n" for line in kept))
            self.file = path.open("a", buffering=1)

    def add(self, step: int, values: dict[str, float]) -> None:
        if self.file is None:
            return
        point = Point(step, time.time(), values)
        self.file.write(json.dumps(vars(point)) + "\n")
        if self.report:
            self.report(point)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError):  # a line cut off by a kill
        return 1 << 62


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
