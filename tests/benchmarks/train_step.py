"""Images a second in training, beside torchvision's detectors: same backbone, input size, batch and
boxes, random weights.

    python -m tests.benchmarks train_step [--size 512] [--batch 2] [--boxes 8] [--rounds 5]

Ours is `detcore.step.train_step` with its gradient norm and clipping, from uint8 images, in
channels_last and, on CUDA, compiled; theirs is what its reference script does: float images, sum of
losses, backward, SGD. `--amp ours` has bf16 in ours alone, `both` in both. All have ResNet-50 with
BN that trains, as torchvision builds it without weights; RetinaNet's tower has no norm and FCOS's
GN, as there. EfficientDet-D0 (published form) stands beside torchvision's RetinaNet. The batch is
at hand: nothing is read from disk.

GFLOPs are those of one image's forward pass (a multiply and an add are two): a detector that did
less work would not be faster, but another one. `of a product` is the share of the machine's own
speed that is reached: operations a second (three forward passes' worth in a step) over those of a
large matrix product.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import detection

from detcore.config import Config, schema
from detcore.data.batch import Batch
from detcore.detectors import build_detector
from detcore.distributed import Gang
from detcore.measure import Meter
from detcore.setup import build_optimizer
from detcore.step import train_step
from tests.benchmarks.side_by_side import in_turns, ratio, write

CLASSES = 80
PRODUCT = 4096  # rows
NOTHING, BN, GN = schema.NoNorm(), schema.BatchNorm(), schema.GroupNorm()
PLAIN = schema.NoNorm(act="none")

OURS: dict[str, schema.Detector] = {
    "RetinaNet-R50": schema.RetinaNet(
        backbone=schema.ResNet(norm_act=BN),
        neck=schema.Fpn(norm_act=PLAIN),
        head=schema.TowerHead(norm_act=NOTHING),
    ),
    "FCOS-R50": schema.Fcos(
        backbone=schema.ResNet(norm_act=BN),
        neck=schema.Fpn(norm_act=PLAIN),
        head=schema.TowerHead(norm_act=GN, norm_levels="shared"),
        ranges=(64.0, 128.0, 256.0, 512.0),
    ),
    "EfficientDet-D0": schema.RetinaNet(
        backbone=schema.EfficientNet(norm_act=schema.BatchNorm(act="swish")),
        neck=schema.BiFpn(
            channels=64, repeats=3, norm_act=schema.BatchNorm(act="swish"), conv="separable"
        ),
        head=schema.TowerHead(
            num_convs=3, norm_act=schema.BatchNorm(act="swish"), conv="separable"
        ),
    ),
}
THEIRS: dict[str, Callable[..., torch.nn.Module]] = {
    "RetinaNet-R50": detection.retinanet_resnet50_fpn,
    "FCOS-R50": detection.fcos_resnet50_fpn,
    "EfficientDet-D0": detection.retinanet_resnet50_fpn,
}


def batch_of(size: int, batch: int, boxes: int, device: torch.device) -> Batch:
    torch.manual_seed(0)
    corner = torch.rand(batch, boxes, 2) * size * 0.6
    sides = 16 + torch.rand(batch, boxes, 2) * size * 0.35
    return Batch(
        images=torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8),
        sizes=torch.full((batch, 2), size),
        boxes=torch.cat((corner, corner + sides), dim=-1),
        labels=torch.randint(0, CLASSES, (batch, boxes)),
        image_ids=torch.arange(batch),
        scales=torch.ones(batch, 2),
    ).to(device)


def ours(model: schema.Detector, batch: Batch, amp: bool) -> tuple[Callable[[], None], float]:
    """A training step, and the GFLOPs of an image's forward pass."""
    device = batch.images.device
    on_gpu = device.type == "cuda"
    config = Config(
        model=model,
        train=schema.Train(batch_per_gpu=len(batch.images), amp="bf16" if amp else "none"),
        optim=schema.Sgd(lr=1e-4),
        runtime=schema.Runtime(channels_last=True, compile=on_gpu),
    )
    torch.manual_seed(0)
    detector = build_detector(model, CLASSES, [1] * CLASSES).to(device).train()
    detector = detector.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(detector, config)
    forward = torch.compile(detector) if on_gpu else detector
    batches, meter, gang = itertools.repeat(batch), Meter(1), Gang()

    def step() -> None:
        train_step(forward, detector, optimizer, batches, config, device, meter, gang)
        finish(device)

    return step, gflops(partial(detector, batch.images[:1].float()))


def theirs(
    make: Callable[..., torch.nn.Module], batch: Batch, amp: bool
) -> tuple[Callable[[], None], float]:
    device, size = batch.images.device, batch.images.shape[-1]
    torch.manual_seed(0)
    model = make(
        weights=None,
        weights_backbone=None,
        num_classes=CLASSES,
        min_size=size,
        max_size=size,
    )
    model = model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
    images: list[Tensor] = list(batch.images.float() / 255)
    pairs = zip(batch.boxes, batch.labels, strict=True)
    targets: list[dict[str, Tensor]] = [{"boxes": b, "labels": k} for b, k in pairs]

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
            losses: dict[str, Tensor] = model(images, targets)
            loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        finish(device)

    def forward() -> Any:
        backbone: Any = model.backbone
        head: Any = model.head
        return head(list(backbone(images[0][None]).values()))

    return step, gflops(forward)


def gflops(forward: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward()
    return counter.get_total_flops() / 1e9


def product(device: torch.device, amp: bool) -> Callable[[], None]:
    """A product of two square matrices."""
    kind = torch.bfloat16 if amp and device.type == "cuda" else torch.float32
    a, b = torch.randn(2, PRODUCT, PRODUCT, device=device, dtype=kind)

    def call() -> None:
        torch.mm(a, b)
        finish(device)

    return call


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--boxes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--amp", choices=["none", "ours", "both"], default="none", help="bf16")
    parser.add_argument("--only", choices=list(OURS))
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = batch_of(args.size, args.batch, args.boxes, device)
    rows = {}
    for name in [args.only] if args.only else list(OURS):
        (our_step, our_work), (their_step, their_work) = (
            ours(OURS[name], batch, args.amp != "none"),
            theirs(THEIRS[name], batch, args.amp == "both"),
        )
        turns = {
            "ours": our_step,
            "torchvision": their_step,
            "product": product(device, args.amp != "none"),
        }
        seconds = in_turns(turns, args.rounds)
        product_s = statistics.median(seconds["product"])
        rate = {who: args.batch / statistics.median(seconds[who]) for who in list(turns)[:2]}
        work = {"ours": our_work, "torchvision": their_work}
        speed = PRODUCT**3 * 2 / 1e9 / product_s  # GFLOPs a second
        share = {who: 3 * work[who] * rate[who] / speed for who in rate}
        times = ratio(seconds["torchvision"], seconds["ours"])
        print(
            f"{name:16} ours {rate['ours']:7.2f} img/s ({our_work:.0f} GFLOPs)   "
            f"torchvision {rate['torchvision']:7.2f} img/s ({their_work:.0f} GFLOPs)   "
            f"ratio {times:.2f}   of a product {share['ours']:.0%}, {share['torchvision']:.0%}",
            flush=True,
        )
        rows[name] = {"ratio": times, "images_per_s": rate, "seconds": seconds}
        rows[name] |= {"gflops": work, "product_gflops_per_s": speed, "of_a_product": share}
    settings = {"size": args.size, "batch": args.batch, "boxes": args.boxes, "amp": args.amp}
    write("train_step", {**settings, "device": device.type, "rows": rows})


if __name__ == "__main__":
    main()
