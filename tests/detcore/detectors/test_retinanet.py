"""RetinaNet against slow loops over images and anchors built on torchvision's parts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou, generalized_box_iou_loss, nms, sigmoid_focal_loss

from detcore.config import schema
from detcore.detectors import build_detector
from detcore.detectors.retinanet import Outputs, RetinaNet
from detcore.distributed import Gang
from detcore.ops.anchors import grid_anchors
from tests.detcore.detectors.sync import NoHostWait

K = 3


def build(
    norm: schema.NormAct | None = None,
    box_loss: schema.BoxLoss | None = None,
    postprocess: schema.Postprocess | None = None,
) -> RetinaNet:
    norm = norm or schema.GroupNorm(groups=4)
    torch.manual_seed(0)
    cfg = schema.RetinaNet(
        backbone=schema.TinyBackbone(width=8, norm_act=norm),
        neck=schema.Fpn(channels=8, norm_act=norm),
        head=schema.TowerHead(num_convs=1, norm_act=norm),
        anchors=schema.GridAnchors(sizes=(16.0, 32.0, 64.0, 128.0, 256.0)),
        box_loss=box_loss or schema.HuberLoss(),
        normaliser="rank",
        postprocess=postprocess or schema.Postprocess(),
    )
    detector = build_detector(cfg, K)
    assert isinstance(detector, RetinaNet)
    return detector


def batch(device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Three images with 2, 0 and 1 boxes."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 3, 64, 96, generator=generator)
    boxes = torch.zeros(3, 2, 4)
    boxes[0] = torch.tensor([[5.0, 5, 30, 28], [40, 10, 90, 60]])
    boxes[2, 0] = torch.tensor([20.0, 30, 37, 50])
    labels = torch.tensor([[2, 0], [-1, -1], [1, -1]])
    return images.to(device), boxes.to(device), labels.to(device)


def random_outputs(model: RetinaNet, images: Tensor) -> Outputs:
    """The model's shapes with values spread wide enough to have detections."""
    logits, deltas, sizes, input_size = model(images)
    generator = torch.Generator().manual_seed(2)
    return Outputs(
        torch.randn(logits.shape, generator=generator) * 2 - 3,
        torch.randn(deltas.shape, generator=generator) * 0.3,
        sizes,
        input_size,
    )


def total(losses: dict[str, Tensor]) -> Tensor:
    return losses["class"] + losses["box"]


@pytest.mark.parametrize("box_loss", [schema.HuberLoss(weight=1.5), schema.IouLoss(weight=2.0)])
def test_losses_equal_a_loop_over_images(box_loss: schema.BoxLoss) -> None:
    model = build(box_loss=box_loss)
    images, boxes, labels = batch()
    outputs = random_outputs(model, images)
    logits, deltas, sizes, _ = outputs
    anchors = grid_anchors(model.cfg.anchors, sizes, model.strides, "cpu").boxes
    coder, matcher = BoxCoder((1.0, 1.0, 1.0, 1.0)), Matcher(0.5, 0.4, True)
    class_sum, box_sum, positives = torch.zeros(()), torch.zeros(()), 0
    for b in range(len(images)):
        real = labels[b] >= 0
        match = torch.full((len(anchors),), -1)
        if real.any():
            match = matcher(box_iou(boxes[b][real], anchors))
        for a in range(len(anchors)):
            if match[a] == -2:
                continue
            target = torch.zeros(K)
            if match[a] >= 0:
                target[labels[b][match[a]]] = 1
                positives += 1
                box, anchor, delta = boxes[b][match[a]], anchors[a : a + 1], deltas[b, a : a + 1]
                if isinstance(box_loss, schema.IouLoss):
                    decoded = coder.decode_single(delta, anchor)[0]
                    box_sum += 2.0 * generalized_box_iou_loss(decoded, box)
                else:
                    error = (delta - coder.encode_single(box[None], anchor)).abs()
                    huber = torch.where(error < 1, error**2 / 2, error - 0.5)
                    box_sum += 1.5 * huber.sum()
            class_sum += sigmoid_focal_loss(logits[b, a], target, reduction="sum")
    losses = model.losses(outputs, boxes, labels, Gang())
    assert positives > 3
    torch.testing.assert_close(losses["class"], class_sum / positives, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["box"], box_sum / positives, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("box_loss", [schema.HuberLoss(), schema.IouLoss()])
def test_a_batch_without_boxes_has_finite_gradients_and_no_box_loss(
    box_loss: schema.BoxLoss,
) -> None:
    model = build(box_loss=box_loss)
    images, boxes, labels = batch()
    losses = model.losses(model(images), boxes * 0, labels * 0 - 1, Gang())
    assert losses["box"] == 0
    total(losses).backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert model.head.class_out.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "norm", [schema.BatchNorm(), schema.GroupNorm(groups=4), schema.EvoNormS0(groups=4)]
)
def test_batch_of_one_small_image_trains_and_evaluates(norm: schema.NormAct) -> None:
    """64 px at batch 1: P6 and P7 are 1 x 1 maps, so BN sees one value per channel."""
    model = build(norm)
    images, boxes, labels = batch()
    image = images[:1, :, :, :64]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    first = None
    for _ in range(6):
        loss = total(model.losses(model(image), boxes[:1], labels[:1], Gang()))
        first = loss.detach() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < first
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    model.eval()
    assert torch.isfinite(model(image)[0]).all()


@pytest.mark.parametrize(
    "norm", [schema.BatchNorm(), schema.GroupNorm(groups=4), schema.EvoNormS0(groups=4)]
)
def test_bf16_autocast_gives_nearly_the_same_losses_in_fp32(norm: schema.NormAct) -> None:
    model = build(norm)
    images, boxes, labels = batch()
    expected = model.losses(model(images), boxes, labels, Gang())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(images)
        losses = model.losses(outputs, boxes, labels, Gang())
    assert outputs[0].dtype == torch.bfloat16
    for name, value in losses.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0.1, atol=0.05)
    total(losses).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_the_same_seed_gives_the_same_shared_weights_under_every_norm() -> None:
    states = [build(n).state_dict() for n in (schema.BatchNorm(), schema.EvoNormS0(groups=4))]
    shared = [name for name in states[0] if states[0][name].dim() == 4]
    assert len(shared) > 10
    assert all(torch.equal(states[0][name], states[1][name]) for name in shared)


def test_mistakes_are_named_with_their_component() -> None:
    cfg = schema.RetinaNet(
        backbone=schema.TinyBackbone(width=8, norm_act=schema.BatchNorm()),
        neck=schema.Fpn(channels=12, norm_act=schema.GroupNorm(groups=8)),
    )
    with pytest.raises(ValueError, match=r"^neck: norm_act gn: groups = 8 does not divide 12 "):
        build_detector(cfg, K)


def brute_force(
    model: RetinaNet, outputs: Outputs, sizes: Tensor, image: int
) -> list[tuple[float, list[float], int]]:
    cfg = model.cfg.postprocess
    logits, deltas, feature_sizes, _ = outputs
    anchors = grid_anchors(model.cfg.anchors, feature_sizes, model.strides, "cpu").boxes
    decoded = BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(deltas[image], anchors)
    height, width = (float(v) for v in sizes[image])
    candidates: list[tuple[float, list[float], int]] = []
    start = 0
    for h, w in feature_sizes:
        level = []
        for a in range(start, start + h * w * 9):
            x1, y1, x2, y2 = decoded[a].tolist()
            box = [min(max(x1, 0.0), width), min(max(y1, 0.0), height)]
            box += [min(max(x2, 0.0), width), min(max(y2, 0.0), height)]
            for k in range(K):
                level.append((1 / (1 + math.exp(-float(logits[image, a, k]))), box, k))
        level.sort(key=lambda c: -c[0])
        candidates += [c for c in level[: cfg.top_k] if c[0] > cfg.score_threshold]
        start += h * w * 9
    kept = []
    for k in range(K):
        mine = [c for c in candidates if c[2] == k]
        if mine:
            tensors = torch.tensor([c[1] for c in mine]), torch.tensor([c[0] for c in mine])
            kept += [mine[i] for i in nms(*tensors, cfg.nms_iou).tolist()]
    return sorted(kept, key=lambda c: -c[0])[: cfg.max_detections]


@pytest.mark.parametrize(
    "postprocess",
    [
        schema.Postprocess(),
        schema.Postprocess(score_threshold=0.3, top_k=20, nms_iou=0.3, max_detections=7),
    ],
)
def test_detections_equal_a_loop(postprocess: schema.Postprocess) -> None:
    model = build(postprocess=postprocess)
    images, _, _ = batch()
    outputs = random_outputs(model, images)
    sizes = torch.tensor([[64, 96], [40, 96], [64, 50]])
    found = model.detect(outputs, sizes)
    for image, (boxes, scores, labels) in enumerate(found):
        expected = brute_force(model, outputs, sizes, image)
        assert len(expected) > 3
        assert labels.dtype == torch.int64
        assert labels.tolist() == [c[2] for c in expected]
        torch.testing.assert_close(scores, torch.tensor([c[0] for c in expected]))
        torch.testing.assert_close(boxes, torch.tensor([c[1] for c in expected]))


def test_nothing_above_the_threshold_is_an_empty_list() -> None:
    model = build(postprocess=schema.Postprocess(score_threshold=0.99))
    images, _, _ = batch()
    for boxes, scores, labels in model.detect(model(images), torch.full((3, 2), 64)):
        assert boxes.shape == (0, 4)
        assert scores.shape == labels.shape == (0,)


@pytest.mark.parametrize("box_loss", [schema.HuberLoss(), schema.IouLoss()])
@pytest.mark.parametrize(
    "norm",
    [
        schema.BatchNorm(),
        schema.FrozenBatchNorm(),
        schema.GroupNorm(groups=4),
        schema.EvoNormS0(groups=4),
    ],
)
def test_a_step_has_no_operation_that_waits(norm: schema.NormAct, box_loss: schema.BoxLoss) -> None:
    model = build(norm, box_loss)
    images, boxes, labels = batch()
    with NoHostWait():
        total(model.losses(model(images), boxes, labels, Gang())).backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("box_loss", [schema.HuberLoss(), schema.IouLoss()])
@pytest.mark.parametrize("norm", [schema.BatchNorm(), schema.EvoNormS0(groups=4)])
def test_a_step_never_makes_the_host_wait(norm: schema.NormAct, box_loss: schema.BoxLoss) -> None:
    model = build(norm, box_loss).cuda()
    images, boxes, labels = batch("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        total(model.losses(model(images), boxes, labels, Gang())).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
