"""FCOS against slow loops over images, points and boxes, and against torchvision's FCOS."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.ops import generalized_box_iou_loss, nms, sigmoid_focal_loss

from detcore.config import schema
from detcore.detectors import build_detector
from detcore.detectors.fcos import Fcos, Outputs, target_centerness
from detcore.distributed import Gang
from tests.detcore.detectors.sync import NoHostWait

K = 3
PUBLISHED: dict[str, Any] = {
    "ties": "area",
    "centre_radius": 1.5,
    "weighted_boxes": True,
    "score": "root",
}


def build(norm: schema.NormAct | None = None, counts: tuple[int, ...] = (), **cfg: Any) -> Fcos:
    norm = norm or schema.GroupNorm(groups=4)
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "neck": schema.Fpn(channels=8, norm_act=norm, top="c6"),
        "ranges": (16.0, 32.0, 64.0),
        "normaliser": "rank",
    }
    detector = build_detector(
        schema.Fcos(
            backbone=schema.TinyBackbone(width=8, norm_act=norm),
            head=schema.TowerHead(num_convs=1, norm_act=norm),
            **{**settings, **cfg},
        ),
        K,
        counts,
    )
    assert isinstance(detector, Fcos)
    return detector


def batch(device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """Three images with 3 (of which two overlap), 0 and 1 boxes."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 3, 64, 96, generator=generator)
    boxes = torch.zeros(3, 3, 4)
    boxes[0] = torch.tensor([[2.0, 5, 30, 28], [40, 10, 90, 60], [36, 10, 84, 50]])
    boxes[2, 0] = torch.tensor([20.0, 30, 37, 50])
    labels = torch.tensor([[2, 0, 1], [-1, -1, -1], [1, -1, -1]])
    return images.to(device), boxes.to(device), labels.to(device)


def random_outputs(model: Fcos, images: Tensor) -> Outputs:
    """The model's shapes with values spread wide enough to have detections."""
    logits, sides, centerness, sizes, input_size = model(images)
    generator = torch.Generator().manual_seed(2)
    return Outputs(
        torch.randn(logits.shape, generator=generator) * 2 - 3,
        torch.rand(sides.shape, generator=generator) * 40,
        torch.randn(centerness.shape, generator=generator),
        sizes,
        input_size,
    )


def total(losses: dict[str, Tensor]) -> Tensor:
    return losses["class"] + losses["box"] + losses["centerness"]


def points_of(model: Fcos, sizes: list[tuple[int, int]]) -> list[tuple[float, float, int]]:
    """x, y and level of every point, in the order of the outputs."""
    return [
        ((j + 0.5) * model.strides[level], (i + 0.5) * model.strides[level], level)
        for level, (height, width) in enumerate(sizes)
        for i in range(height)
        for j in range(width)
    ]


@pytest.mark.parametrize("form", [{}, PUBLISHED, {"weighted_boxes": True}, {"centre_radius": 0.7}])
def test_losses_equal_a_loop_over_images_points_and_boxes(form: dict[str, Any]) -> None:
    model = build(box_loss=schema.IouLoss(weight=2.0), **form)
    images, boxes, labels = batch()
    outputs = random_outputs(model, images)
    cfg, limits = model.cfg, [0.0, *model.cfg.ranges, math.inf]
    class_sum = box_sum = centre_sum = weights = 0.0
    positives, contested = 0, 0
    for b in range(len(images)):
        for p, (x, y, level) in enumerate(points_of(model, outputs.feature_sizes)):
            candidates = []
            for m in range(3):
                x1, y1, x2, y2 = boxes[b, m].tolist()
                sides = [x - x1, y - y1, x2 - x, y2 - y]
                if labels[b, m] < 0 or min(sides) <= 0:
                    continue
                if not limits[level] <= max(sides) <= limits[level + 1]:
                    continue
                radius = cfg.centre_radius * model.strides[level]
                if radius and max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) >= radius:
                    continue
                rank = (x2 - x1) * (y2 - y1) if cfg.ties == "area" else max(sides)
                candidates.append((rank, m, sides))
            contested += len(candidates) > 1
            target = torch.zeros(K)
            if candidates:
                _, m, (left, upper, right, lower) = min(candidates)
                target[labels[b, m]] = 1
                c = math.sqrt(
                    min(left, right) / max(left, right) * min(upper, lower) / max(upper, lower)
                )
                s = outputs.sides[b, p].tolist()
                found = torch.tensor([x - s[0], y - s[1], x + s[2], y + s[3]])
                weight = c if cfg.weighted_boxes else 1.0
                box_sum += 2 * weight * float(generalized_box_iou_loss(found, boxes[b, m]))
                q = 1 / (1 + math.exp(-float(outputs.centerness[b, p])))
                centre_sum -= c * math.log(q) + (1 - c) * math.log(1 - q)
                positives, weights = positives + 1, weights + weight
            class_sum += float(sigmoid_focal_loss(outputs.logits[b, p], target, reduction="sum"))
    losses = model.losses(outputs, boxes, labels, Gang())
    assert positives > 5
    assert contested > 0 or cfg.centre_radius > 0
    assert tuple(losses) == model.parts
    expected = (class_sum / positives, box_sum / max(1, weights), centre_sum / positives)
    found = [losses[part].item() for part in model.parts]
    assert found == pytest.approx(expected, rel=1e-4)


def test_losses_are_torchvisions_in_the_form_they_share() -> None:
    """torchvision: smallest area, centre sampling 1.5, boxes unweighted, ranges 64 to 512."""
    model = build(
        neck=schema.Fpn(channels=8, norm_act=schema.GroupNorm(groups=4)),
        ranges=(64.0, 128.0, 256.0, 512.0),
        ties="area",
        centre_radius=1.5,
    )
    sizes = [(32, 40), (16, 20), (8, 10), (4, 5), (2, 3)]
    lengths = [h * w for h, w in sizes]
    generator = torch.Generator().manual_seed(3)
    n = sum(lengths)
    stride = torch.cat([torch.full((k,), s) for k, s in zip(lengths, model.strides, strict=True)])
    x, y, _ = torch.tensor(points_of(model, sizes)).unbind(-1)
    half = stride / 2
    anchors = torch.stack((x - half, y - half, x + half, y + half), dim=-1)

    logits = (torch.randn(2, n, K, generator=generator) - 2).requires_grad_()
    sides = (torch.rand(2, n, 4, generator=generator) * 2 * stride[:, None]).requires_grad_()
    centerness = torch.randn(2, n, generator=generator, requires_grad=True)
    boxes = torch.zeros(2, 12, 4)
    boxes[..., :2] = torch.rand(2, 12, 2, generator=generator) * 200
    boxes[..., 2:] = boxes[..., :2] + 2 ** (torch.rand(2, 12, 2, generator=generator) * 5 + 4)
    labels = torch.randint(0, K, (2, 12), generator=generator)
    labels[1, 5:] = -1

    head: Any = SimpleNamespace(box_coder=BoxLinearCoder(normalize_by_size=True))
    head.compute_loss = lambda *args: FCOSHead.compute_loss(head, *args)
    theirs = FCOS.compute_loss(
        SimpleNamespace(center_sampling_radius=1.5, head=head),  # type: ignore[arg-type]
        [{"boxes": b[c >= 0], "labels": c[c >= 0]} for b, c in zip(boxes, labels, strict=True)],
        {
            "cls_logits": logits,
            "bbox_regression": sides / stride[:, None],
            "bbox_ctrness": centerness[..., None],
        },
        [anchors.clone(), anchors.clone()],
        lengths,
    )
    mine = model.losses(
        Outputs(logits, sides, centerness, sizes, (256, 320)), boxes, labels, Gang()
    )
    names = {"class": "classification", "box": "bbox_regression", "centerness": "bbox_ctrness"}
    for part, name in names.items():
        assert mine[part] > 0
        torch.testing.assert_close(mine[part], theirs[name], rtol=1e-4, atol=1e-6)
    inputs = [logits, sides, centerness]
    for a, b in zip(
        torch.autograd.grad(total(mine), inputs),
        torch.autograd.grad(sum(theirs.values()), inputs),  # type: ignore[arg-type]
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_centerness_by_hand() -> None:
    # in the middle; at a quarter of the width; at a fifth of the width and a tenth of the height
    sides = torch.tensor([[5.0, 7, 5, 7], [10, 6, 30, 6], [10, 10, 40, 90]])
    expected = torch.tensor([1.0, math.sqrt(1 / 3), math.sqrt(1 / 4 * 1 / 9)])
    torch.testing.assert_close(target_centerness(sides), expected)


def test_a_point_reads_the_head_at_its_cell() -> None:
    model = build(box_start="xavier")
    images, _, _ = batch()
    with torch.no_grad():
        model.side_scales.copy_(torch.tensor([0.5, 1.0, 2.0, 3.0]))
        outputs = model(images)
        levels = [model.head.level(x, i) for i, x in enumerate(model.maps(images))]
    row = 0
    for level, (height, width) in enumerate(outputs.feature_sizes):
        classes, conv, centerness = levels[level]
        stride, scale = 8 * 2**level, (0.5, 1.0, 2.0, 3.0)[level]
        for i in range(height):
            for j in range(width):
                sides = (scale * conv[:, :, i, j]).clamp(min=0) * 2 * stride
                torch.testing.assert_close(outputs.sides[:, row], sides)
                torch.testing.assert_close(outputs.logits[:, row], classes[:, :, i, j])
                torch.testing.assert_close(outputs.centerness[:, row], centerness[:, 0, i, j])
                row += 1
    assert row == outputs.sides.shape[1]
    assert (outputs.sides > 0).any()


def test_sides_start_near_two_strides_or_as_the_report_had_them() -> None:
    images, _, _ = batch()
    with torch.no_grad():
        small, report = build()(images), build(box_start="xavier")(images)
    points = points_of(build(), small.feature_sizes)
    strides = torch.tensor([8.0 * 2**level for _, _, level in points])
    ratio = small.sides / (2 * strides[:, None])
    assert ((ratio > 0.5) & (ratio < 1.5)).all()
    share = (report.sides == 0).float().mean()  # of a convolution with mean 0
    assert 0.3 < share < 0.7
    assert torch.equal(small.logits, report.logits)


def test_side_scales_learn_at_a_fifth_of_their_gradient() -> None:
    model = build(box_start="xavier")  # sides at 0 among them
    images, _, _ = batch()
    levels = [model.head.level(x, i)[1] for i, x in enumerate(model.maps(images))]
    weights = [torch.randn(x.shape) for x in levels]
    plain = torch.ones(4, requires_grad=True)
    value = sum(
        ((plain[i] * x).clamp(min=0) * 16 * 2**i * w).sum()
        for i, (x, w) in enumerate(zip(levels, weights, strict=True))
    )
    [expected] = torch.autograd.grad(value, [plain])  # type: ignore[arg-type]
    rows = torch.cat([w.permute(0, 2, 3, 1).flatten(1, 2) for w in weights], dim=1)
    [found] = torch.autograd.grad((model(images).sides * rows).sum(), [model.side_scales])
    torch.testing.assert_close(found, 0.2 * expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("form", [{}, PUBLISHED, {"box_loss": schema.IouLoss("ciou", clip=True)}])
def test_a_batch_without_boxes_has_finite_gradients_and_only_a_class_loss(
    form: dict[str, Any],
) -> None:
    model = build(**form)
    images, boxes, labels = batch()
    losses = model.losses(model(images), boxes * 0, labels * 0 - 1, Gang())
    assert losses["box"] == losses["centerness"] == 0
    assert losses["class"] > 0
    total(losses).backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert model.head.class_out.weight.grad.abs().sum() > 0  # type: ignore[union-attr,operator]


def test_an_image_without_boxes_adds_only_background() -> None:
    model = build()
    images, boxes, labels = batch()
    outputs = random_outputs(model, images)
    alone = Outputs(*(x[::2] for x in outputs[:3]), *outputs[3:])
    both = model.losses(outputs, boxes, labels, Gang())
    without = model.losses(alone, boxes[::2], labels[::2], Gang())
    torch.testing.assert_close(both["box"], without["box"])
    torch.testing.assert_close(both["centerness"], without["centerness"])
    assert both["class"] > without["class"]


@pytest.mark.parametrize("kind", ["diou", "ciou"])
def test_the_box_loss_is_the_one_chosen(kind: Any) -> None:
    images, boxes, labels = batch()
    values = []
    for box_loss in (schema.IouLoss(), schema.IouLoss(kind), schema.IouLoss(kind, clip=True)):
        model = build(box_loss=box_loss)
        outputs = random_outputs(model, images)
        values.append(model.losses(outputs, boxes, labels, Gang())["box"].item())
    assert len(set(values)) == 3


def test_class_frequencies_reach_the_class_loss() -> None:
    images, boxes, labels = batch()
    plain = build()
    outputs = random_outputs(plain, images)
    spared = build(class_loss=schema.FrequencyFocalLoss(), counts=(1000, 1, 1))
    equal = build(class_loss=schema.FrequencyFocalLoss(), counts=(5, 5, 5))
    values = [m.losses(outputs, boxes, labels, Gang())["class"] for m in (plain, spared, equal)]
    assert values[1] < values[0]
    torch.testing.assert_close(values[2], values[0])
    with pytest.raises(ValueError, match="needs class_counts"):
        build(class_loss=schema.FrequencyFocalLoss())


@pytest.mark.parametrize("form", [{}, PUBLISHED])
def test_bf16_autocast_gives_nearly_the_same_losses_in_fp32(form: dict[str, Any]) -> None:
    model = build(**form)
    images, boxes, labels = batch()
    expected = model.losses(model(images), boxes, labels, Gang())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(images)
        losses = model.losses(outputs, boxes, labels, Gang())
    assert outputs.logits.dtype == torch.bfloat16
    assert outputs.sides.dtype == torch.float32
    for name, value in losses.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0.1, atol=0.05)
    total(losses).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def brute_force(
    model: Fcos, outputs: Outputs, sizes: Tensor, image: int
) -> list[tuple[float, list[float], int]]:
    cfg = model.cfg.postprocess
    height, width = (float(v) for v in sizes[image])
    levels: list[list[tuple[float, float, list[float], int]]] = [[] for _ in model.strides]
    for p, (x, y, level) in enumerate(points_of(model, outputs.feature_sizes)):
        left, upper, right, lower = outputs.sides[image, p].tolist()
        box = [max(x - left, 0.0), max(y - upper, 0.0), x + right, y + lower]
        box = [min(v, limit) for v, limit in zip(box, [width, height] * 2, strict=True)]
        central = 1 / (1 + math.exp(-float(outputs.centerness[image, p])))
        for k in range(K):
            score = 1 / (1 + math.exp(-float(outputs.logits[image, p, k])))
            product = score * central
            final = math.sqrt(product) if model.cfg.score == "root" else product
            levels[level].append((score, final, box, k))
    kept: list[tuple[float, list[float], int]] = []
    for level in levels:
        level.sort(key=lambda c: -c[0])
    candidates = [c for level in levels for c in level[: cfg.top_k] if c[0] > cfg.score_threshold]
    for k in range(K):
        mine = [c[1:] for c in candidates if c[3] == k]
        if mine:
            tensors = torch.tensor([c[1] for c in mine]), torch.tensor([c[0] for c in mine])
            kept += [mine[i] for i in nms(*tensors, cfg.nms_iou).tolist()]
    return sorted(kept, key=lambda c: -c[0])[: cfg.max_detections]


@pytest.mark.parametrize("score", ["product", "root"])
@pytest.mark.parametrize(
    "postprocess",
    [
        schema.Postprocess(),
        schema.Postprocess(score_threshold=0.3, top_k=20, nms_iou=0.3, max_detections=7),
    ],
)
def test_detections_equal_a_loop(postprocess: schema.Postprocess, score: str) -> None:
    model = build(postprocess=postprocess, score=score)
    images, _, _ = batch()
    outputs = random_outputs(model, images)
    sizes = torch.tensor([[64, 96], [40, 96], [64, 50]])
    for image, (boxes, scores, labels) in enumerate(model.detect(outputs, sizes)):
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


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
@pytest.mark.parametrize("form", [{}, {**PUBLISHED, "normaliser": "running"}])
def test_a_step_has_no_operation_that_waits(form: dict[str, Any], kind: Any) -> None:
    model = build(
        box_loss=schema.IouLoss(kind, clip=True),
        class_loss=schema.FrequencyFocalLoss(),
        counts=(5, 1, 300),
        **form,
    )
    images, boxes, labels = batch()
    with NoHostWait():
        total(model.losses(model(images), boxes, labels, Gang())).backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["giou", "ciou"])
@pytest.mark.parametrize("form", [{}, PUBLISHED])
def test_a_step_never_makes_the_host_wait(form: dict[str, Any], kind: Any) -> None:
    model = build(
        box_loss=schema.IouLoss(kind, clip=True),
        class_loss=schema.FrequencyFocalLoss(),
        counts=(5, 1, 300),
        **form,
    ).cuda()
    images, boxes, labels = batch("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        total(model.losses(model(images), boxes, labels, Gang())).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_few_steps_lower_every_part() -> None:
    model = build(schema.EvoNormS0(groups=4))
    images, boxes, labels = batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    history: list[dict[str, float]] = []
    for _ in range(20):
        losses = model.losses(model(images), boxes, labels, Gang())
        history.append({name: value.item() for name, value in losses.items()})
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
    assert all(history[-1][part] < history[0][part] for part in model.parts)
    assert history[-1]["box"] < 0.7 * history[0]["box"]


def test_settings_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match="ranges needs one number between each two of the 4"):
        build(ranges=(64.0, 128.0))
    with pytest.raises(ValueError, match="ranges must be positive and rise"):
        build(ranges=(64.0, 32.0, 128.0))
    with pytest.raises(ValueError, match="centre_radius must not be negative"):
        build(centre_radius=-1.0)
