"""Evaluations that are scored beside training: nothing but the time differs.

What holds up a score here is the annotation file: a named pipe in its place makes its reader wait.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detcore import train as loop
from detcore.beside import Beside, Died
from detcore.config import Config, from_dict, to_dict
from detcore.data.shapes import ensure_shapes
from detcore.distributed import Gang, process_group
from detcore.result import Point, Result
from detcore.train import train
from tests.detcore.small_run import Crash, config, losses, weights

pytestmark = pytest.mark.timeout(120)


class HeldUp:
    """A data set of its own, and a training on it whose first evaluation is held up from step 1 to
    `until`; `at` is called with each point."""

    def __init__(self, root: Path, until: int = 10**9) -> None:
        shutil.copytree(ensure_shapes(config().data.source), root)
        self.source = {"kind": "coco", "root": str(root)}
        self.file = root / "annotations" / "instances_val.json"
        self.content = self.file.read_text()
        self.until = until
        self.steps: list[int] = []  # of losses, in the order in which they came
        self.scored: dict[int, int] = {}  # by step of the weights: how many losses were known

    def hold(self) -> None:
        self.file.unlink()
        os.mkfifo(self.file)

    def let_go(self) -> None:
        with self.file.open("w") as pipe:  # waits for the reader
            self.restore()
            pipe.write(self.content)

    def restore(self) -> None:
        self.file.unlink()
        self.file.write_text(self.content)

    def __call__(self, point: Point) -> None:
        if "mAP" in point.values:
            self.scored[point.step] = len(self.steps)
            return
        self.steps.append(point.step)
        if point.step == 1:
            self.hold()
        if point.step == self.until:
            self.let_go()


def curve(workdir: Path) -> dict[int, dict[str, float]]:
    """The metrics by step; each is there once."""
    points = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    found = [(p["step"], p["values"]) for p in points if "mAP" in p["values"]]
    assert len(dict(found)) == len(found)
    return dict(found)


def scores(result: Result) -> tuple[Any, ...]:
    return result.outcome, result.reason, result.step, result.metrics, result.class_AP


def one_rank(cfg: Config, workdir: Path) -> None:
    train(cfg, workdir=workdir)


def two_ranks(cfg: Config, workdir: Path) -> None:
    workdir.mkdir()
    torch.multiprocessing.spawn(rank_of_two, (to_dict(cfg), workdir), nprocs=2)


def rank_of_two(rank: int, cfg: dict[str, Any], workdir: Path) -> None:
    gang = Gang(rank, 2, rank)
    with process_group(gang, workdir / ".meeting", "cpu", timeout_s=60):
        train(from_dict(Config, cfg), workdir=workdir, gang=gang)


@pytest.mark.parametrize(("run", "world"), [(one_rank, 1), (two_ranks, 2)])
def test_beside_and_inline_give_the_same(
    tmp_path: Path, run: Callable[[Config, Path], None], world: int
) -> None:
    ways = {}
    for scoring in ("inline", "beside"):
        settings = {"runtime__scoring": scoring, "train__workers": world, "eval__every": 4}
        run(config(**settings), tmp_path / scoring)
        ways[scoring] = tmp_path / scoring
    inline, beside = ways.values()
    assert losses(inline) == losses(beside)
    assert sorted(curve(inline)) == [4, 8, 12, 16, 20]
    assert curve(inline) == curve(beside)
    mine, theirs = weights(inline), weights(beside)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert (inline / "detections.json").read_text() == (beside / "detections.json").read_text()
    with np.load(inline / "matches.npz") as a, np.load(beside / "matches.npz") as b:
        assert all(np.array_equal(a[name], b[name]) for name in a.files)
    results = [json.loads((way / "result.json").read_text()) for way in ways.values()]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["class_AP"] == results[1]["class_AP"]


def test_training_goes_on_while_an_evaluation_is_scored(tmp_path: Path) -> None:
    held = HeldUp(tmp_path / "data", until=8)
    cfg = config(data__source=held.source, eval__every=5, runtime__scoring="beside")
    result = train(cfg, workdir=tmp_path / "held", report=held)
    plain = train(config(eval__every=5), workdir=tmp_path / "plain")
    assert held.scored[5] >= 9  # the score after 5 steps came when those after 9 were known
    assert curve(tmp_path / "held") == curve(tmp_path / "plain")
    assert scores(result) == scores(plain)


def test_a_score_that_is_too_low_ends_the_run_as_if_it_had_been_waited_for(tmp_path: Path) -> None:
    progress = ({"at": 0.25, "min_map": 0.9},)
    held = HeldUp(tmp_path / "data", until=8)
    cfg = config(monitor__progress=progress, data__source=held.source, runtime__scoring="beside")
    beside = train(cfg, workdir=tmp_path / "beside", report=held)
    inline = train(config(monitor__progress=progress), workdir=tmp_path / "inline")
    assert beside.outcome == "stalled"
    assert "the floor at 25%" in beside.reason
    assert scores(beside) == scores(inline)
    assert beside.evidence == inline.evidence
    assert max(step for step, *_ in losses(tmp_path / "inline")) == 4
    assert 8 <= max(step for step, *_ in losses(tmp_path / "beside")) < 19


@pytest.mark.parametrize("floor", [0.0, 0.9])
def test_what_came_first_is_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, floor: float
) -> None:
    """The loss explodes at step 7, while the score of the weights after 5 steps is held up."""
    held = HeldUp(tmp_path / "data", until=7)
    original, calls = loop.train_step, iter(range(100))

    def explode(*args: Any) -> torch.Tensor:
        return original(*args) * (float("nan") if next(calls) == 7 else 1.0)

    monkeypatch.setattr(loop, "train_step", explode)
    progress = ({"at": 0.25, "min_map": floor},)
    cfg = config(monitor__progress=progress, data__source=held.source, runtime__scoring="beside")
    result = train(cfg, workdir=tmp_path / "run", report=held)
    assert held.steps[-1] == 7
    if floor:
        assert (result.outcome, result.step) == ("stalled", 4)
    else:
        assert (result.outcome, result.step) == ("diverged", 7)
    assert result.metrics["mAP"] == curve(tmp_path / "run")[5]["mAP"]


def test_a_scoring_process_that_is_killed_costs_time_alone(tmp_path: Path) -> None:
    held = HeldUp(tmp_path / "data")

    def kill(point: Point) -> None:
        held(point)
        if point.step == 7:
            (child,) = multiprocessing.active_children()
            held.restore()
            child.kill()
            child.join()

    cfg = config(data__source=held.source, eval__every=5, runtime__scoring="beside")
    with pytest.warns(RuntimeWarning, match=r"no score came .*\(exit code -9\)"):
        result = train(cfg, workdir=tmp_path / "killed", report=kill)
    plain = train(config(eval__every=5), workdir=tmp_path / "plain")
    assert curve(tmp_path / "killed") == curve(tmp_path / "plain")
    assert scores(result) == scores(plain)


def test_a_scoring_process_that_cannot_be_started_costs_time_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it is killed while it is still being told what to do."""

    def torn(self: Beside, call: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(Beside, "__init__", torn)
    cfg = config(eval__every=10, runtime__scoring="beside")
    with pytest.warns(RuntimeWarning, match="scored while training waits"):
        train(cfg, workdir=tmp_path / "torn")
    train(config(eval__every=10), workdir=tmp_path / "plain")
    assert curve(tmp_path / "torn") == curve(tmp_path / "plain")


def test_a_score_that_a_crash_took_along_is_made_again(tmp_path: Path) -> None:
    """The checkpoint of step 10 was written while the evaluation of step 10 was being scored."""
    held = HeldUp(tmp_path / "data")
    cfg = config(data__source=held.source, eval__every=10, runtime__scoring="beside")

    def crash(point: Point) -> None:
        held(point)
        if point.step == 13:
            raise Crash

    with pytest.raises(Crash):
        train(cfg, workdir=tmp_path / "halves", report=crash)
    assert multiprocessing.active_children() == []
    assert curve(tmp_path / "halves") == {}
    held.restore()
    (tmp_path / "halves" / ".matches.npz.123").touch()  # torn, of a process that was killed
    result = train(cfg, workdir=tmp_path / "halves")
    assert not list((tmp_path / "halves").glob(".*"))
    whole = train(config(eval__every=10), workdir=tmp_path / "whole")
    assert curve(tmp_path / "halves") == curve(tmp_path / "whole")
    assert losses(tmp_path / "halves") == losses(tmp_path / "whole")
    assert scores(result) == scores(whole)


def test_a_file_that_cannot_be_read_any_more_is_named(tmp_path: Path) -> None:
    held = HeldUp(tmp_path / "data")
    cfg = config(data__source=held.source, eval__every=5, runtime__scoring="beside")

    def spoil(point: Point) -> None:
        if point.step == 1:
            held.file.write_text("{")

    with (
        pytest.warns(RuntimeWarning, match=r"exit code 1"),
        pytest.raises(ValueError, match=r"instances_val\.json"),
    ):
        train(cfg, workdir=tmp_path / "run", report=spoil)


def test_a_call_beside_answers_or_dies() -> None:
    assert Beside(partial(max, 3, 4)).result() == 4
    with pytest.raises(Died, match="exit code 1"):
        Beside(partial(divmod, 1, 0)).result()
    with pytest.raises(Died, match="exit code 9"):
        Beside(partial(os._exit, 9)).result()
    assert multiprocessing.active_children() == []
