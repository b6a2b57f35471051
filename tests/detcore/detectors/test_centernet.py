"""CenterNet against slow loops over images, boxes, peaks and pairs."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import box_iou, nms

from detcore.config import schema
from detcore.detectors import build_detector
from detcore.detectors.centernet import CenterNet, Outputs, in_centre
from detcore.distributed import Gang
from detcore.heads.centernet import KeypointMaps
from tests.detcore.detectors.sync import NoHostWait

K = 3
H, W = 20, 24  # cells of the random maps
POOLINGS = ["exact", "maxpool", "maxpool_v2"]
GN = schema.GroupNorm(groups=4)
HOOKS = [None, schema.BalanceHook(norm_act=GN)]


def build(norm: schema.NormAct = GN, **settings: Any) -> CenterNet:
    torch.manual_seed(0)
    cfg = schema.CenterNet(
        backbone=schema.TinyBackbone(width=8, norm_act=norm),
        neck=schema.Fpn(channels=16, norm_act=norm, top="none"),
        norm_act=norm,
        **settings,
    )
    detector = build_detector(cfg, K)
    assert isinstance(detector, CenterNet)
    return detector


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Three images with 2, 0 and 1 boxes; one box touches the right and lower border."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 3, 64, 96, generator=generator)
    boxes = torch.zeros(3, 2, 4)
    boxes[0] = torch.tensor([[5.0, 5, 30, 28], [40, 10, 96, 64]])
    boxes[2, 0] = torch.tensor([20.0, 30, 37, 50])
    labels = torch.tensor([[2, 0], [-1, -1], [1, -1]])
    return images, boxes, labels


def random_outputs(seed: int = 2) -> Outputs:
    """Maps of 160 x 192 images, spread wide enough to have detections."""
    g = torch.Generator().manual_seed(seed)
    return Outputs(
        KeypointMaps(
            torch.randn(3, 3, K, H, W, generator=g) * 2,
            torch.randn(3, 2, H, W, generator=g) / 2,
            torch.rand(3, 3, 2, H, W, generator=g),
        ),
        torch.zeros(()),
    )


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


# ---------------------------------------------------------------- losses


def slow_losses(outputs: Outputs, boxes: Tensor, labels: Tensor) -> dict[str, float]:
    heat, tags, offsets = (m.tolist() for m in outputs.maps)
    targets = torch.zeros(3, 3, K, H, W)
    errors, pulls, pushes = [], [], []
    for b in range(3):
        means = []
        for box, label in zip(boxes[b].tolist(), labels[b].tolist(), strict=True):
            if label < 0:
                continue
            x1, y1, x2, y2 = (v / 8 for v in box)
            w, h = x2 - x1, y2 - y1
            # the third case of the rule, not divided by 2a
            r = (-1.4 * (w + h) + math.sqrt((1.4 * (w + h)) ** 2 + 4 * 2.8 * 0.3 * w * h)) / 2
            tag = []
            for i, (x, y) in enumerate(((x1, y1), (x2, y2), ((x1 + x2) / 2, (y1 + y2) / 2))):
                column, row = min(int(x), W - 1), min(int(y), H - 1)
                sigma = (2 * r + 1) / (5 if i == 2 else 6)
                for u, v in itertools.product(range(H), range(W)):
                    if max(abs(u - row), abs(v - column)) <= r:
                        d2 = (u - row) ** 2 + (v - column) ** 2
                        bell = math.exp(-d2 / (2 * sigma**2))
                        targets[b, i, label, u, v] = max(float(targets[b, i, label, u, v]), bell)
                for found, wanted in (
                    (offsets[b][i][0][row][column], x - column),
                    (offsets[b][i][1][row][column], y - row),
                ):
                    e = abs(found - wanted)
                    errors.append(e**2 / 2 if e < 1 else e - 0.5)
                if i < 2:
                    tag.append(tags[b][i][row][column])
            mean = sum(tag) / 2
            pulls.append(sum((t - mean) ** 2 for t in tag))
            means.append(mean)
        pushes += [max(0.0, 1 - abs(m - n)) for m, n in itertools.permutations(means, 2)]
    heatmap = 0.0
    for i in range(3):
        part, positives = 0.0, 0
        logits, wanted = torch.tensor(heat)[:, i].flatten().tolist(), targets[:, i].flatten()
        for x, y in zip(logits, wanted.tolist(), strict=True):
            p = 1 / (1 + math.exp(-x))
            positives += y >= 0.5
            part -= (
                (1 - p) ** 2 * math.log(p) if y >= 0.5 else (1 - y) ** 4 * p**2 * math.log(1 - p)
            )
        heatmap += part / (positives + 1e-4)
    return {
        "heatmap": heatmap,
        "offset": sum(errors) / len(errors),
        "pull": sum(pulls) / len(pulls),
        "push": sum(pushes) / len(pushes),
    }


def test_losses_equal_a_loop_over_boxes() -> None:
    outputs, (_, boxes, labels) = random_outputs(), batch()
    boxes = boxes * torch.tensor([2.0, 2.5, 2.0, 2.5])  # one ends at the border of the maps
    expected = slow_losses(outputs, boxes, labels)
    found = build().losses(outputs, boxes, labels, Gang())
    assert tuple(found) == CenterNet.parts
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert float(value) == pytest.approx(expected[name], rel=1e-4), name
        assert expected[name] > 0.01


@pytest.mark.parametrize("hook", HOOKS, ids=["no hook", "balance"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_parameter_gets_a_gradient(pooling: str, hook: schema.Hook | None) -> None:
    """DDP waits for one of every parameter; those of P4 and P5 alone get zeros without a hook."""
    model = build(pooling=pooling, hook=hook)
    images, boxes, labels = batch()
    total(model.losses(model(images), boxes, labels, Gang())).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    head = [name for name, p in model.head.named_parameters() if not p.grad.abs().sum() > 0]
    assert head == []
    silent = [n for n, p in model.named_parameters() if p.grad.abs().sum() == 0]
    assert (silent == []) == (hook is not None)


@pytest.mark.parametrize("rows", [0, 2])
def test_a_batch_without_boxes_has_finite_gradients_and_a_heatmap_loss_only(rows: int) -> None:
    model = build()
    images, boxes, labels = batch()
    boxes, labels = boxes[:, :rows] * 0, labels[:, :rows] * 0 - 1
    losses = model.losses(model(images), boxes, labels, Gang())
    assert losses["offset"] == losses["pull"] == losses["push"] == 0
    assert 0 < losses["heatmap"] < 3 * 3 * K * 8 * 12  # not divided by 1e-4
    total(losses).backward()
    gradients = [p.grad for p in model.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_bf16_autocast_gives_nearly_the_same_losses_in_fp32(pooling: str) -> None:
    model = build(pooling=pooling)
    images, boxes, labels = batch()
    expected = model.losses(model(images), boxes, labels, Gang())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(images)
        losses = model.losses(outputs, boxes, labels, Gang())
    assert outputs.maps.heatmaps.dtype == torch.bfloat16
    for name, value in losses.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name], rtol=0.1, atol=0.05)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_step_has_no_operation_that_waits(pooling: str) -> None:
    model = build(pooling=pooling)
    images, boxes, labels = batch()
    with NoHostWait():
        total(model.losses(model(images), boxes, labels, Gang())).backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_step_never_makes_the_host_wait(pooling: str) -> None:
    model = build(pooling=pooling).cuda()
    images, boxes, labels = (x.cuda() for x in batch())
    torch.cuda.set_sync_debug_mode("error")
    try:
        total(model.losses(model(images), boxes, labels, Gang())).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_fixed_batch_is_learned(pooling: str) -> None:
    """From probability 1/2 everywhere to the boxes themselves."""
    model = build(pooling=pooling)
    images, boxes, labels = batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    curve = []
    for _ in range(100):
        losses = model.losses(model(images), boxes, labels, Gang())
        optimizer.zero_grad()
        total(losses).backward()
        optimizer.step()
        curve.append({name: float(value.detach()) for name, value in losses.items()})
    assert all(curve[-1][name] < 0.05 * curve[0][name] for name in model.parts)
    found, _, found_labels = model.detect(model(images), torch.tensor([[64, 96]] * 3))[0]
    for box, label in zip(boxes[0], labels[0], strict=True):
        best = found[found_labels == label][:1]
        assert float(box_iou(box[None], best)) > 0.7


# ---------------------------------------------------------------- detections


def peaks_of(logits: list[list[list[float]]], count: int) -> list[tuple[float, int, int, int]]:
    """(score, class, row, column), best first."""
    found = []
    for k, i, j in itertools.product(range(K), range(H), range(W)):
        near = [
            logits[k][u][v]
            for u in range(max(0, i - 1), min(H, i + 2))
            for v in range(max(0, j - 1), min(W, j + 2))
        ]
        if logits[k][i][j] == max(near):
            found.append((1 / (1 + math.exp(-logits[k][i][j])), k, i, j))
    return sorted(found, reverse=True)[:count]


def brute_force(
    cfg: schema.CenterNet, outputs: Outputs, sizes: Tensor, b: int
) -> list[tuple[float, list[float], int]]:
    heat, tags, offsets = (m[b].tolist() for m in outputs.maps)
    height, width = (float(v) for v in sizes[b])

    def place(i: int, row: int, column: int) -> tuple[float, float]:
        return (column + offsets[i][0][row][column]) * 8, (row + offsets[i][1][row][column]) * 8

    peaks = [peaks_of(heat[i], cfg.corners) for i in range(3)]
    pairs = []
    for (p, k, i, j), (q, m, u, v) in itertools.product(peaks[0], peaks[1]):
        if k != m or abs(tags[0][i][j] - tags[1][u][v]) > 1:
            continue
        (x1, y1), (x2, y2) = place(0, i, j), place(1, u, v)
        box = [min(x1, width), min(y1, height), min(x2, width), min(y2, height)]
        if box[2] > box[0] and box[3] > box[1]:
            pairs.append(((p + q) / 2, box, k))
    pairs.sort(key=lambda pair: -pair[0])
    candidates = []
    for mean, (x1, y1, x2, y2), k in pairs[: cfg.pairs]:
        n = 5 if (x2 - x1) * (y2 - y1) > 130**2 else 3
        left, right = ((n + i) * x1 / (2 * n) + (n - i) * x2 / (2 * n) for i in (1, -1))
        top, low = ((n + i) * y1 / (2 * n) + (n - i) * y2 / (2 * n) for i in (1, -1))
        centres = [
            s
            for s, m, i, j in peaks[2]
            if m == k and left < place(2, i, j)[0] < right and top < place(2, i, j)[1] < low
        ]
        if centres and (2 * mean + max(centres)) / 3 > cfg.score_threshold:
            candidates.append(((2 * mean + max(centres)) / 3, [x1, y1, x2, y2], k))
    kept = []
    for k in range(K):
        mine = [c for c in candidates if c[2] == k]
        if mine:
            tensors = torch.tensor([c[1] for c in mine]), torch.tensor([c[0] for c in mine])
            kept += [mine[i] for i in nms(*tensors, cfg.nms_iou).tolist()]
    return sorted(kept, key=lambda c: -c[0])[: cfg.max_detections]


@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"corners": 70, "pairs": 250, "score_threshold": 0.97, "nms_iou": 0.3},
        {"corners": 70, "max_detections": 3},
    ],
    ids=["default", "tight", "few"],
)
def test_detections_equal_brute_force_over_all_pairs(chosen: dict[str, Any]) -> None:
    model, outputs = build(**chosen), random_outputs()
    sizes = torch.tensor([[160, 192], [100, 192], [160, 130]])
    for b, (boxes, scores, labels) in enumerate(model.detect(outputs, sizes)):
        expected = brute_force(model.cfg, outputs, sizes, b)
        assert len(expected) >= 3
        assert labels.dtype == torch.int64
        assert labels.tolist() == [c[2] for c in expected]
        torch.testing.assert_close(scores, torch.tensor([c[0] for c in expected]))
        torch.testing.assert_close(boxes, torch.tensor([c[1] for c in expected]))


def ideal(boxes: list[tuple[int, int, int, int]], labels: list[int]) -> Outputs:
    """What a perfect network would say of an image of 256 x 320: a sharp peak, the true offset and
    a tag of its own at each keypoint; elsewhere tags that agree with no other."""
    heat = torch.full((1, 3, K, 32, 40), -9.0)
    tags = torch.tensor([-100.0, 100.0]).view(1, 2, 1, 1).repeat(1, 1, 32, 40)
    offsets = torch.zeros(1, 3, 2, 32, 40)
    for n, ((x1, y1, x2, y2), label) in enumerate(zip(boxes, labels, strict=True)):
        for i, (x, y) in enumerate(((x1, y1), (x2, y2), ((x1 + x2) / 2, (y1 + y2) / 2))):
            column, row = min(int(x // 8), 39), min(int(y // 8), 31)
            heat[0, i, label, row, column] = 9.0
            offsets[0, i, :, row, column] = torch.tensor([x / 8 - column, y / 8 - row])
            if i < 2:
                tags[0, i, row, column] = 3.0 * n
    return Outputs(KeypointMaps(heat, tags, offsets), torch.zeros(()))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[list[tuple[int, int, int, int]], list[int]]:
    boxes, labels = [], []
    for _ in range(draw(st.integers(1, 6))):
        x1, y1 = draw(st.integers(0, 310)), draw(st.integers(0, 246))
        boxes.append((x1, y1, draw(st.integers(x1 + 8, 320)), draw(st.integers(y1 + 8, 256))))
        labels.append(draw(st.integers(0, K - 1)))
    return boxes, labels


@settings(max_examples=40, deadline=None)
@given(scene=scenes())
def test_ideal_maps_decode_to_their_boxes(
    scene: tuple[list[tuple[int, int, int, int]], list[int]],
) -> None:
    boxes, labels = scene
    for corner in (slice(0, 2), slice(2, 4)):  # two boxes cannot share a corner's cell
        cells = {
            tuple(min(v // 8, last) for v, last in zip(b[corner], (39, 31), strict=True))
            for b in boxes
        }
        assume(len(cells) == len(boxes))
    truth = torch.tensor(boxes).float()
    overlap = box_iou(truth, truth).triu(diagonal=1)
    assume(overlap.max() < 0.5)  # NMS would take one
    centres = {((b[0] + b[2]) // 16, (b[1] + b[3]) // 16) for b in boxes}
    assume(len(centres) == len(boxes))
    found, scores, found_labels = CENTERNET.detect(
        ideal(boxes, labels), torch.tensor([[256, 320]])
    )[0]
    assert len(found) == len(boxes)
    assert scores.min() > 0.99
    iou, best = box_iou(truth, found).max(dim=1)
    assert iou.min() > 0.99
    assert found_labels[best].tolist() == labels


CENTERNET = build()


def test_a_box_needs_a_centre_of_its_class() -> None:
    outputs = ideal([(16, 16, 80, 80)], [1])
    sizes = torch.tensor([[256, 320]])
    assert len(CENTERNET.detect(outputs, sizes)[0][0]) == 1
    for i in range(3):
        heat = outputs.maps.heatmaps.clone()
        heat[:, i] = heat[:, i].roll(1, dims=1)
        broken = Outputs(outputs.maps._replace(heatmaps=heat), outputs.unused)
        assert len(CENTERNET.detect(broken, sizes)[0][0]) == 0


def test_tags_more_than_one_apart_are_no_pair() -> None:
    outputs, sizes = ideal([(16, 16, 80, 80)], [1]), torch.tensor([[256, 320]])
    for shift, expected in ((0.9, 1), (1.1, 0)):
        tags = outputs.maps.tags + torch.tensor([0.0, shift]).view(1, 2, 1, 1)
        moved = Outputs(outputs.maps._replace(tags=tags), outputs.unused)
        assert len(CENTERNET.detect(moved, sizes)[0][0]) == expected


def test_boxes_are_cut_to_the_valid_size() -> None:
    outputs = ideal([(16, 16, 80, 80)], [1])
    found = CENTERNET.detect(outputs, torch.tensor([[70, 75]]))[0][0]
    torch.testing.assert_close(found, torch.tensor([[16.0, 16, 75, 70]]))


def test_the_central_region_by_hand() -> None:
    """Of 120 x 120 the middle 40, of 200 x 200 also the middle 40."""
    points = torch.tensor([[41.0, 79], [39, 60], [60, 81], [100, 119], [100, 121]])
    boxes = torch.tensor([[0.0, 0, 120, 120]] * 3 + [[0.0, 0, 200, 200]] * 2)
    assert in_centre(points, boxes).tolist() == [True, False, False, True, False]


def test_nothing_above_the_threshold_is_an_empty_list() -> None:
    model = build(score_threshold=0.99)
    for boxes, scores, labels in model.detect(model(batch()[0]), torch.full((3, 2), 64)):
        assert boxes.shape == (0, 4)
        assert scores.shape == labels.shape == (0,)


# ---------------------------------------------------------------- building


@pytest.mark.parametrize("prior", [0.5, 0.1])
def test_heatmaps_start_at_the_prior(prior: float) -> None:
    model = build(prior_prob=prior)
    for i in range(3):
        torch.testing.assert_close(
            model.head.heatmaps[i][-1].bias.sigmoid(), torch.full((K,), prior)
        )


def test_the_poolings_differ_in_what_they_are_built_of() -> None:
    """maxpool_v2 has norms and dilation 2 in its corner paths and a centre branch without pools."""
    exact, v1, v2 = (build(pooling=pooling) for pooling in POOLINGS)
    assert exact.state_dict().keys() == v1.state_dict().keys()
    dilated = [n for n, m in v2.named_modules() if getattr(m, "dilation", (1, 1)) == (2, 2)]
    assert len(dilated) == 8  # two branches x two paths x two convolutions
    widths = [m.out_channels for m in v2.head.branches[2].modules() if hasattr(m, "out_channels")]
    assert widths == [8, 8, 16]
    images = batch()[0]
    v1.load_state_dict(exact.state_dict())
    assert not torch.allclose(exact(images).maps.heatmaps, v1(images).maps.heatmaps)


def test_mistakes_are_named_with_their_component() -> None:
    cfg = schema.CenterNet(
        backbone=schema.TinyBackbone(width=8),
        neck=schema.Fpn(channels=24, norm_act=schema.GroupNorm(groups=8), top="none"),
        norm_act=schema.GroupNorm(groups=8),
        pooling="maxpool_v2",
    )
    with pytest.raises(ValueError, match=r"^head: norm_act gn: groups = 8 does not divide 12 "):
        build_detector(cfg, K)
