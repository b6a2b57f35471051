"""The training loop: resume bit for bit, an update by hand, ranks, verdicts, users' mistakes."""

import copy
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.multiprocessing.spawn import ProcessException

from detcore.config import Config, from_dict, to_dict
from detcore.data.coco import open_split
from detcore.data.loader import train_batches
from detcore.data.shapes import ensure_shapes
from detcore.detectors import build_detector
from detcore.distributed import Gang, process_group
from detcore.measure import Meter
from detcore.precision import normalise
from detcore.setup import build_optimizer
from detcore.step import train_step
from detcore.train import train
from tests.detcore.small_run import Crash, config, losses, weights

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "changes",
    [
        {"model__head__norm_act": "bn", "model__neck__norm_act": "bn"},
        {"train__accumulate": 2, "schedule": {"kind": "step", "milestones": [0.4]}},
        {"runtime__loader_workers": 2, "model__normaliser": "gang"},
    ],
    ids=["bn", "accumulate", "loader workers"],
)
def test_ten_steps_and_ten_resumed_are_twenty_bit_for_bit(tmp_path, changes):
    whole = train(config(**changes), workdir=tmp_path / "whole")

    def crash_in_step_13(point):
        if point.step == 13:
            raise Crash

    with pytest.raises(Crash):
        train(config(**changes), workdir=tmp_path / "halves", report=crash_in_step_13)
    torch.manual_seed(12345)  # a warm process is in any state
    resumed = train(config(**changes), workdir=tmp_path / "halves")
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")
    assert [step for step, _, _ in losses(tmp_path / "halves")] == list(range(20))
    ours, theirs = weights(tmp_path / "halves"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert resumed.metrics == whole.metrics
    detections = [(tmp_path / d / "detections.json").read_text() for d in ("halves", "whole")]
    assert detections[0] == detections[1]


def rank_of_two(rank: int, cfg: dict[str, object], workdir: Path, crash_at: int | None) -> None:
    def report(point):
        if point.step == crash_at:
            raise Crash

    gang = Gang(rank, 2, rank)
    with process_group(gang, workdir / f".meeting-{crash_at}", "cpu", timeout_s=60):
        train(from_dict(Config, cfg), workdir=workdir, gang=gang, report=report)


def test_two_ranks_with_their_own_running_statistics_resume_bit_for_bit(tmp_path):
    cfg = to_dict(
        config(train__workers=2, model__head__norm_act="bn", model__backbone__norm_act="bn")
    )
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    spawn = partial(torch.multiprocessing.spawn, rank_of_two, nprocs=2)
    with pytest.raises(ProcessException):
        spawn(args=(cfg, tmp_path / "halves", 13))
    spawn(args=(cfg, tmp_path / "halves", None))
    spawn(args=(cfg, tmp_path / "whole", None))
    ours, theirs = tmp_path / "halves", tmp_path / "whole"
    assert losses(ours) == losses(theirs)
    states = [torch.load(d / "checkpoint.pt", weights_only=True)["ranks"] for d in (ours, theirs)]
    for mine, other in zip(*states, strict=True):
        assert all(torch.equal(b, other["buffers"][n]) for n, b in mine["buffers"].items())
    name = next(n for n in states[0][0]["buffers"] if n.endswith("running_mean"))
    assert not torch.equal(states[0][0]["buffers"][name], states[0][1]["buffers"][name])
    assert (ours / "detections.json").read_text() == (theirs / "detections.json").read_text()


def test_an_evaluation_before_the_checkpoint_is_in_the_curve_once(tmp_path):
    cfg = config(eval__every=10)

    def crash(point):
        if point.step == 13:
            raise Crash

    with pytest.raises(Crash):
        train(cfg, workdir=tmp_path, report=crash)
    train(cfg, workdir=tmp_path)
    points = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [p["step"] for p in points if "mAP" in p["values"]] == [10, 20]


def test_the_weights_that_are_scored_are_kept(tmp_path):
    """7 steps, a checkpoint every 10: the last step's is written all the same."""
    cfg = config(train__steps=7)
    first = train(cfg, workdir=tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 7
    steps = losses(tmp_path)
    again = train(cfg, workdir=tmp_path)
    assert again.metrics == first.metrics
    assert losses(tmp_path) == steps


@pytest.mark.parametrize("protocol", ["coco", "report"])
def test_what_an_evaluation_matched_and_the_ap_of_classes_go_with_its_metrics(tmp_path, protocol):
    (tmp_path / "matches.npz").write_text("an earlier attempt's")
    cfg = config(train__steps=40, eval__protocol=protocol, data__source__val_images=8)
    result = train(cfg, workdir=tmp_path)
    assert result.metrics["mAP"] > 0
    classes = result.class_AP.values()
    assert sum(classes) / len(classes) == pytest.approx(result.metrics["mAP"], abs=1e-12)
    assert json.loads((tmp_path / "result.json").read_text())["class_AP"] == result.class_AP
    with np.load(tmp_path / "matches.npz") as matches:
        found = json.loads((tmp_path / "detections.json").read_text())
        assert len(matches["image_ids"]) == 8
        assert sorted(matches["score"]) == pytest.approx(sorted(d["score"] for d in found))


def test_data_that_cannot_be_scored_are_refused(tmp_path):
    cfg = config()
    shapes = ensure_shapes(cfg.data.source)
    shutil.copytree(shapes, tmp_path / "data")
    val = tmp_path / "data" / "annotations" / "instances_val.json"
    content = json.loads(val.read_text())
    source = {"kind": "coco", "root": str(tmp_path / "data")}
    val.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(ValueError, match=r"instances_val.json: has no boxes"):
        train(config(data__source=source), workdir=tmp_path / "a")
    fewer = [c for c in content["categories"] if c["id"] != 4]
    kept = [a for a in content["annotations"] if a["category_id"] != 4]
    val.write_text(json.dumps({**content, "categories": fewer, "annotations": kept}))
    with pytest.raises(ValueError, match=r"its categories are not those of .*instances_train.json"):
        train(config(data__source=source), workdir=tmp_path / "b")


def test_a_stop_request_saves_and_the_next_call_goes_on(tmp_path):
    calls = iter(range(100))
    cancelled = train(
        config(runtime__checkpoint_every=0), workdir=tmp_path, should_stop=lambda: next(calls) >= 5
    )
    assert cancelled.outcome == "cancelled"
    assert 5 <= cancelled.step <= 7
    train(config(runtime__checkpoint_every=0), workdir=tmp_path)
    train(config(runtime__checkpoint_every=0), workdir=tmp_path / "whole")
    assert losses(tmp_path) == losses(tmp_path / "whole")


def batches(cfg: Config, pin_memory: bool = False):
    """The batches of one rank from step 0 on."""
    return train_batches(
        open_split(cfg.data, "train"),
        cfg.data,
        seed=0,
        batch=2,
        rank=0,
        world=1,
        start_step=0,
        workers=0,
        pin_memory=pin_memory,
    )


def test_one_step_equals_an_update_written_by_hand():
    cfg = config(optim={"lr": 0.5, "momentum": 0.9, "weight_decay": 0.1, "clip_norm": 0.5})
    torch.manual_seed(0)
    ours = build_detector(cfg.model, 4).train()
    theirs = copy.deepcopy(ours)
    optimizer = build_optimizer(ours, cfg)
    stats = train_step(ours, ours, optimizer, batches(cfg), cfg, CPU, Meter(2), Gang())

    batch = next(batches(cfg))
    parts = theirs.losses(theirs(normalise(batch.images)), batch.boxes, batch.labels, Gang())
    loss = parts["class"] + parts["box"]
    loss.backward()
    norm = torch.sqrt(sum((p.grad**2).sum() for p in theirs.parameters()))
    assert norm > 0.5  # clipping takes part
    with torch.no_grad():
        for p in theirs.parameters():
            gradient = p.grad * 0.5 / norm
            p -= 0.5 * (gradient + (0.1 * p if p.ndim > 1 else 0))
    assert stats[0] == pytest.approx(loss.item(), rel=1e-5)
    assert stats[-1] == pytest.approx(norm.item(), rel=1e-5)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-6)


def run_cli(workdir: Path, cfg: Config, *overrides: str) -> subprocess.CompletedProcess[str]:
    workdir.mkdir(parents=True, exist_ok=True)
    file = workdir / "in.yaml"
    file.write_text(yaml.safe_dump(to_dict(cfg)))
    command = [sys.executable, "-m", "detcore.train", str(file), *overrides]
    return subprocess.run(
        [*command, "--workdir", str(workdir)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_two_ranks_of_one_image_train_like_one_rank_of_two(tmp_path):
    """With norms per sample and one normaliser for all, the split of a batch changes nothing."""
    base = {
        "train__steps": 6,
        "schedule__warmup_steps": 0,
        "data__input__train_short_sides": [64],  # of two sizes, the smaller would be padded
    }
    done = run_cli(tmp_path / "two", config(**base), "train.workers=2", "train.batch_per_gpu=1")
    assert done.returncode == 0, done.stderr
    assert "mAP" in done.stdout
    train(config(**base), workdir=tmp_path / "one")
    two, one = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert [s for s, _, _ in two] == list(range(6))
    for (_, loss, norm), (_, loss1, norm1) in zip(two, one, strict=True):
        assert loss == pytest.approx(loss1, rel=2e-3)
        assert norm == pytest.approx(norm1, rel=2e-2)
    per_rank = run_cli(
        tmp_path / "rank",
        config(**base, model__normaliser="rank"),
        "train.workers=2",
        "train.batch_per_gpu=1",
    )
    assert per_rank.returncode == 0, per_rank.stderr
    assert two[0][2] == pytest.approx(one[0][2], rel=1e-3)
    assert losses(tmp_path / "rank")[0][2] != pytest.approx(one[0][2], rel=5e-3)


def test_a_learning_rate_far_too_large_is_diverged_with_its_step(tmp_path):
    result = train(config(optim={"lr": 1e12, "clip_norm": 0}), workdir=tmp_path)
    assert result.outcome == "diverged"
    assert result.step < 20
    assert result.metrics == {}
    assert json.loads((tmp_path / "result.json").read_text())["reason"] == result.reason
    assert losses(tmp_path)[-1][0] == result.step


def test_a_declared_checkpoint_of_progress_stops_a_run_that_does_not_learn(tmp_path):
    cfg = config(monitor__progress=[{"at": 0.5, "min_map": 1.0}])
    result = train(cfg, workdir=tmp_path)
    assert (result.outcome, result.step) == ("stalled", 9)
    assert result.metrics["mAP"] < 1
    assert losses(tmp_path)[-1][0] == 9


def test_settings_that_do_not_fit_the_processes_or_the_checkpoint_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"train.workers is 2, but 1 processes"):
        train(config(train__workers=2), workdir=tmp_path)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"runtime.device is cuda"):
            train(config(runtime__device="cuda"), workdir=tmp_path)
    train(config(train__steps=10), workdir=tmp_path)
    with pytest.raises(ValueError, match="written by another config"):
        train(config(train__steps=10, optim__lr=0.5), workdir=tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match="cannot be read"):
        train(config(train__steps=10), workdir=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optim.lr"], "write key=value"),
        (["optim.lrr=1"], "did you mean 'lr'"),
        (["optim.lr=-1"], "lr must be positive"),
        (["model.neck.norm_act=evonrm"], "evonorm_s0"),
        (["data.source={kind: coco, root: nowhere}"], "nowhere"),
        (["model.neck.channels=10"], "divide"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(tmp_path, capsys, arguments, words):
    from detcore.cli import main

    file = tmp_path / "in.yaml"
    file.write_text(yaml.safe_dump(to_dict(config())))
    assert main([str(file), *arguments, "--workdir", str(tmp_path / "w")]) == 2
    err = capsys.readouterr().err.strip()
    assert words in err
    assert "\n" not in err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.neck.norm_act.groups=64", "groups = 64 does not divide"),
        ("data.source={kind: coco, root: nowhere}", "nowhere"),
        ("model.backbone={kind: resnet18, weights: nowhere.pt}", "nowhere.pt"),
    ],
)
def test_a_mistake_is_found_before_several_ranks_are_started(
    tmp_path, capsys, monkeypatch, override, words
):
    from detcore import cli

    file = tmp_path / "in.yaml"
    file.write_text(yaml.safe_dump(to_dict(config(train__workers=2))))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    started = []
    monkeypatch.setattr(cli, "_exec_torchrun", lambda *args: started.append(args))
    monkeypatch.setattr(cli, "_train", lambda *args: 0)
    workdir = ["--workdir", str(tmp_path / "w")]
    assert cli.main([str(file), override, *workdir]) == 2
    err = capsys.readouterr().err.strip()
    assert words in err
    assert "\n" not in err
    assert not started
    assert cli.main([str(file), *workdir]) == 0
    assert started == [(2, [str(file), *workdir])]


def test_overrides_may_stand_on_either_side_of_an_option(tmp_path, monkeypatch):
    from detcore import cli

    file, seen = tmp_path / "in.yaml", []
    file.write_text(yaml.safe_dump(to_dict(config())))
    monkeypatch.setattr(cli, "_train", lambda config, workdir: seen.append((config, workdir)))
    cli.main([str(file), "optim.lr=0.5", "--workdir", "w", "seed=7", "optim.momentum=0.25"])
    [(cfg, workdir)] = seen
    assert (cfg.optim.lr, cfg.seed, cfg.optim.momentum) == (0.5, 7, 0.25)
    assert workdir == Path("w")


@pytest.mark.parametrize("file", ["seed/loss.yaml", "norm_vs_batchsize.yaml"])
def test_a_sweep_file_says_what_runs_it(file, capsys):
    from detcore.cli import main

    file = Path(__file__).parents[2] / "sweeps" / file
    assert main([str(file)]) == 2
    expected = f"{file}: this is a sweep file; run it with python -m orchestrator.run {file}\n"
    assert capsys.readouterr().err == expected


def test_a_number_with_an_exponent_is_a_number_on_the_command_line(tmp_path):
    from detcore.cli import load_config

    file = tmp_path / "in.yaml"
    file.write_text(yaml.safe_dump(to_dict(config())))
    assert load_config(file, ["optim.lr=1e-4"]).optim.lr == 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("amp", ["none", "bf16"])
def test_a_step_never_waits_for_the_device(amp):
    cfg = config(train__amp=amp, runtime__device="cuda", runtime__channels_last=True)
    device = torch.device("cuda")
    detector = build_detector(cfg.model, 4).to(device, memory_format=torch.channels_last).train()
    optimizer = build_optimizer(detector, cfg)
    stream = batches(cfg, pin_memory=True)
    for step in range(3):
        if step == 2:  # the first steps fill caches (anchors, workspaces)
            torch.cuda.set_sync_debug_mode("error")
        try:
            stats = train_step(detector, detector, optimizer, stream, cfg, device, Meter(2), Gang())
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(stats).all()


def test_resized_images_on_disk_change_nothing(tmp_path, monkeypatch):
    """Without them, while they are made, and when all are there."""
    monkeypatch.setenv("DETCORE_CACHE", str(tmp_path / "cache"))
    changes = {"train__steps": 6, "data__input__train_short_sides": [56, 64]}
    plain = train(config(**changes), workdir=tmp_path / "plain")
    for name in ("filling", "full"):
        cached = train(config(**changes, runtime__cache_gb=1.0), workdir=tmp_path / name)
        assert losses(tmp_path / name) == losses(tmp_path / "plain")
        assert cached.metrics == plain.metrics
    assert list((tmp_path / "cache" / "resized").glob("*/*/*"))
