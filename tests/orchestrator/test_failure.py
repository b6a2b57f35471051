"""The failure policy: which attempts are followed by another, and when a sweep gives up."""

from __future__ import annotations

import math
import traceback
from pathlib import Path
from typing import Any

import pytest

from orchestrator.planning.make_plan import make_plan
from orchestrator.sweep.failure import Failure, Policy, last_line, read_failure, signature
from orchestrator.sweep.spec import load_sweep


def faulty(outcome: str, trace: str = "", **more: Any) -> dict[str, Any]:
    return {"fault": {"outcome": outcome, "reason": "because", "traceback": trace, **more}}


def trace_of(function: Any, *given: Any) -> str:
    try:
        function(*given)
    except Exception as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError("it raises")


def bug(rank: int) -> None:
    raise RuntimeError(f"rank {rank}: no such file: /tmp/x{rank}/{rank * 7}")


def other_bug(rank: int) -> None:
    raise RuntimeError(f"rank {rank}: no such file: /tmp/x{rank}/{rank * 7}")


def policy(**said: Any) -> Policy:
    return Policy(Failure(**said))


def label(arm: str, seed: int = 0) -> str:
    return f"norm={arm} seed={seed}"


# ---------------------------------------------------------------- the sweep file


def read(tmp_path: Path, text: str, *arguments: str) -> Failure:
    file = tmp_path / "sweep.yaml"
    lr = "axes: {lr: {path: optim.lr, values: [0.1, 0.2]}}"
    file.write_text(f"version: 1\nname: x\n{lr}\n{text}\n")
    return load_sweep(file, overrides=arguments).failure


def test_what_a_sweep_file_says(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Failure()
    assert Failure().to_json() == {
        "hang_timeout_s": 600.0,
        "max_hours": None,
        "retries": {"lost": "unlimited", "crashed": 2, "timeout": 1, "oom": 0},
        "abort_after": 3,
    }
    text = "failure: {max_hours: 30, retries: {lost: 4, oom: 1}, abort_after: never}"
    said = read(tmp_path, text)
    assert said.retries == {"lost": 4, "crashed": 2, "timeout": 1, "oom": 1}
    assert (said.max_hours, said.abort_after) == (30.0, math.inf)
    # what is written is read back
    again = f"failure: {said.to_json()}".replace("'", "").replace("None", "null")
    assert read(tmp_path, again) == said
    # the short form stands for both, where the long one does not speak
    short = read(tmp_path, "failure: {crash_retries: 5}").retries
    assert short == {"lost": math.inf, "crashed": 5, "timeout": 5, "oom": 0}
    assert read(tmp_path, "", "failure.retries.lost=unlimited").retries["lost"] == math.inf
    assert read(tmp_path, "", "failure.retries.crashed=0").retries["crashed"] == 0


def test_the_policy_is_no_part_of_an_id(tmp_path: Path) -> None:
    ids = []
    for text in ("", "failure: {max_hours: 1, retries: {crashed: 9}, abort_after: 1}"):
        read(tmp_path, text)
        ids.append(make_plan(tmp_path / "sweep.yaml", need_data=False, root=tmp_path).ids)
    assert ids[0] == ids[1]


# ---------------------------------------------------------------- retries


@pytest.mark.parametrize(
    ("outcome", "attempts"), [("crashed", 3), ("timeout", 2), ("oom", 1), ("cancelled", 1)]
)
def test_a_fault_has_the_attempts_that_it_is_given(outcome: str, attempts: int) -> None:
    p = policy()
    again = [p.ended("a", label("bn"), faulty(outcome)) for _ in range(attempts)]
    assert again == [True] * (attempts - 1) + [False]


def lost(step: int | None = None) -> dict[str, Any]:
    return faulty("lost") | {"step": step}


def test_what_is_lost_is_run_again_without_end_and_spends_nothing_else() -> None:
    p = policy()
    assert all(p.ended("a", label("bn"), lost(step)) for step in range(1000))
    assert p.gave_up("a") == ""
    assert p.ended("a", label("bn"), faulty("crashed"))
    assert p.ended("a", label("bn"), faulty("lost"))
    assert p.ended("a", label("bn"), faulty("crashed"))
    assert not p.ended("a", label("bn"), faulty("crashed"))
    assert p.ended("b", label("gn"), faulty("crashed"))  # another cell has its own


@pytest.mark.parametrize(
    ("steps", "runs"),
    [
        ([None] * 20, 10),  # it dies before its first step
        ([0] * 20, 11),  # the first attempt came as far as step 0, the ten after it no farther
        ([7, *[None, 3, 7] * 7], 11),  # from a checkpoint at or before its highest step
        ([None] * 9 + [4] + [4] * 9 + [5] + [1] * 20, 30),  # the ninth is followed by progress
        ([step // 10 for step in range(200)], 200),  # ten at each step, nine of them without one
        ([step // 11 for step in range(200)], 11),
    ],
)
def test_losses_without_a_further_step_come_to_an_end(steps: list[int | None], runs: int) -> None:
    p = policy()
    again = [p.ended("a", label("bn"), lost(step)) for step in steps[:runs]]
    stuck = runs < len(steps)
    assert again == [True] * (runs - 1) + [not stuck]
    assert p.gave_up("a") == ("lost 10 times without a further step" if stuck else "")
    assert p.gave_up("b") == ""
    assert p.ended("b", label("gn"), lost())  # another cell has its own


def test_a_crash_between_losses_is_neither_a_loss_nor_progress_unless_it_came_farther() -> None:
    p = policy()
    for end in [lost(), faulty("crashed")] + [lost()] * 8:
        assert p.ended("a", label("bn"), end)
    assert p.ended("a", label("bn"), faulty("crashed") | {"step": 2})
    for _ in range(9):
        assert p.ended("a", label("bn"), lost(2))
    assert not p.ended("a", label("bn"), lost(2))


def test_a_number_of_losses_is_that_number() -> None:
    p = policy(retries={"lost": 12})
    assert [p.ended("a", label("bn"), lost()) for _ in range(13)] == [True] * 12 + [False]
    assert p.gave_up("a") == ""  # the file says it


def test_a_result_and_a_mistake_are_final() -> None:
    p = policy(retries={"crashed": 9, "lost": 9})
    for outcome in ("converged", "diverged", "stalled"):
        assert not p.ended("a", label("bn"), {"result": {"outcome": outcome}})
        assert not p.ended("a", label("bn"), faulty(outcome))
    assert not p.ended("a", label("bn"), faulty("crashed", final=True))
    assert p.ended("a", label("bn"), faulty("crashed", final=False))


def test_pauses_grow_to_a_minute_and_are_each_cells_own() -> None:
    p = policy()
    pauses = []
    for _ in range(40):
        p.ended("a", label("bn"), faulty("lost"))
        pauses.append(p.pause_s("a"))
    assert pauses[:6] == [0, 5, 10, 20, 40, 60]
    assert set(pauses[5:]) == {60.0}
    assert p.pause_s("b") == 0


# ---------------------------------------------------------------- giving up


def test_three_cells_with_one_traceback_that_stays_end_the_sweep() -> None:
    p = policy()
    assert p.ended("a", label("bn"), faulty("crashed", trace_of(bug, 0)))
    assert p.ended("b", label("gn"), faulty("crashed", trace_of(bug, 1)))
    assert p.ended("c", label("evo"), faulty("crashed", trace_of(bug, 2)))
    assert p.aborted is None  # each once: it may be over by now
    assert not p.ended("b", label("gn"), faulty("crashed", trace_of(bug, 3)))
    assert p.aborted is not None
    assert "\n" not in p.aborted
    for said in (
        "RuntimeError: rank 0: no such file: /tmp/x0/0",
        "norm=bn seed=0, norm=gn seed=0, norm=evo seed=0",
        "python -m orchestrator.why a",
        "failure.abort_after",
    ):
        assert said in p.aborted
    said = p.aborted
    assert not p.ended("d", label("sync"), faulty("lost"))  # nothing starts any more
    assert not p.ended("e", label("sync"), faulty("crashed", trace_of(other_bug, 0)))
    assert p.aborted == said


def test_what_no_attempt_can_cure_ends_the_sweep_at_the_third_cell() -> None:
    p = policy()
    for cell, arm in (("a", "bn"), ("b", "gn")):
        assert not p.ended(cell, label(arm), faulty("crashed", trace_of(bug, 0), final=True))
        assert p.aborted is None
    p.ended("c", label("evo"), faulty("crashed", trace_of(bug, 0), final=True))
    assert p.aborted is not None


@pytest.mark.parametrize(
    "cells",
    [
        # one cell as often as it likes: another arm need not have its problem
        [("a", label("bn"), bug)] * 9,
        # all seeds of one arm: that arm's problem
        [(f"a{seed}", label("bn", seed), bug) for seed in range(6)] * 3,
        # different places
        [("a", label("bn"), bug), ("b", label("gn"), other_bug), ("c", label("evo"), bug)] * 3,
    ],
)
def test_what_is_not_common_to_the_cells_does_not_end_it(cells: list[Any]) -> None:
    p = policy()
    for id, name, function in cells:
        p.ended(id, name, faulty("crashed", trace_of(function, 0)))
    assert p.aborted is None


def test_only_crashes_count_and_never_means_never() -> None:
    for p, outcome in ((policy(), "oom"), (policy(abort_after=math.inf), "crashed")):
        for cell in range(20):
            p.ended(str(cell), label(str(cell)), faulty(outcome, trace_of(bug, 0), final=True))
        assert p.aborted is None


# ---------------------------------------------------------------- tracebacks


def chained() -> None:
    try:
        bug(1)
    except RuntimeError as error:
        raise OSError("the\nlast word\nof several lines") from error


def test_a_signature_is_the_place_and_the_kind_of_error() -> None:
    assert signature(trace_of(bug, 0), "") == signature(trace_of(bug, 5), "")
    assert signature(trace_of(bug, 0), "") != signature(trace_of(other_bug, 0), "")
    assert signature(trace_of(chained), "") != signature(trace_of(bug, 1), "")
    assert last_line(trace_of(bug, 2)) == "RuntimeError: rank 2: no such file: /tmp/x2/14"
    assert last_line(trace_of(chained)) == "OSError: the"
    # the same package at another place, as Ray unpacks it on every node
    here = (
        'Traceback (most recent call last):\n  File "/tmp/a1/pkg/m.py", line 3, in f\nKeyError: 1'
    )
    assert signature(here, "") == signature(here.replace("/tmp/a1", "/nodes/7/ray/b2"), "")
    assert signature(here, "") != signature(here.replace("line 3", "line 4"), "")
    assert signature(here, "") != signature(here.replace("KeyError", "IndexError"), "")


def test_the_signature_of_a_process_that_died_is_its_working_thread() -> None:
    died = """Fatal Python error: Segmentation fault

Thread 0x00007f02775fd6c0 (most recent call first):
  File "/lib/threading.py", line {other} in wait

Current thread 0x00007f0277dfe6c0 (most recent call first):
  File "/lib/ctypes/__init__.py", line 519 in string_at
  File "/app/train.py", line {line} in step

Thread 0x00007f02785ff6c0 (most recent call first):
  <no Python frame>
"""
    one = signature(died.format(other=1, line=11), "")
    assert one == signature(died.format(other=2, line=11), "")
    assert one != signature(died.format(other=1, line=12), "")
    assert last_line(died) == "Fatal Python error: Segmentation fault"


def test_without_a_traceback_the_reason_less_its_numbers_must_do() -> None:
    seen = "worker 0 ended its process with exit code 3"
    assert signature("", seen) == signature("", seen.replace("worker 0", "worker 11"))
    assert signature("", seen) != signature("", "worker 0 crashed with SIGSEGV")
    assert signature("", "full: /a/b.pt at 0x7f3d") == signature("", "full: /c.pt at 0x99aa")


def test_what_the_file_says_is_read_from_a_document_alone(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    read(tmp_path, "failure: {retries: {timeout: 7}}")
    assert read_failure(load_sweep(file).document).retries["timeout"] == 7
