"""The monitor: what counts as diverged, stalled, converged, and at which step."""

import math

import pytest

from detcore.config.schema import Monitor, ProgressCheck
from detcore.convergence import ConvergenceMonitor
from tests.benchmarks import judging


def monitor(**settings) -> ConvergenceMonitor:
    return ConvergenceMonitor(Monitor(**settings), steps=100)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("which", ["loss", "gradient norm"])
def test_a_value_that_is_not_finite_is_diverged_at_once(bad, which):
    m = monitor()
    assert m.observe(0, 1.0, 2.0) is None
    loss, grad = (bad, 1.0) if which == "loss" else (1.0, bad)
    verdict = m.observe(1, loss, grad)
    assert verdict is not None
    assert (verdict.outcome, verdict.step) == ("diverged", 1)
    assert which in verdict.reason
    assert str(bad) in verdict.reason
    assert verdict.evidence["losses_before"] == [1.0]


def test_explosion_needs_patience_steps_on_end():
    m = monitor(explode_factor=10, explode_patience=3)
    for step in range(20):
        assert m.observe(step, 1.0, 1.0) is None
    assert m.observe(20, 11.0, 1.0) is None
    assert m.observe(21, 11.0, 1.0) is None
    verdict = m.observe(22, 11.0, 1.0)
    assert verdict is not None
    assert verdict.step == 22
    assert verdict.evidence == {"loss": 11.0, "running_median": 1.0, "since": 20}


def test_single_spikes_are_forgiven_and_do_not_move_the_median():
    m = monitor(explode_factor=10, explode_patience=3)
    for step in range(300):
        assert m.observe(step, 1e6 if step % 3 else 1.0, 1.0) is None
    assert set(m.healthy) == {1.0}


def test_a_loss_that_jumps_and_stays_is_measured_against_what_it_was():
    m = monitor(window=4, explode_factor=10, explode_patience=10)
    m.observe(0, 1.0, 1.0)
    verdicts = [m.observe(step, 1000.0, 1.0) for step in range(1, 11)]
    assert verdicts[:-1] == [None] * 9
    assert verdicts[-1] is not None
    assert verdicts[-1].step == 10


def test_a_rise_over_many_steps_is_found_by_the_drift_of_the_median():
    """1.2^step: no step is 3 times the median of the 5 before it, but the median itself climbs.

    Median of the last 5 losses at step s is 1.2^(s-2); the lowest is 1.2^2 (steps 0 to 4). It is
    above 3 times that from 1.2^(s-4) > 3, s = 4 + 6.03, on: step 11.
    """
    m = monitor(window=5, explode_factor=3, explode_patience=2)
    verdicts = [m.observe(step, 1.2**step, 1.0) for step in range(12)]
    assert verdicts[:11] == [None] * 11
    assert verdicts[11] is not None
    assert verdicts[11].evidence["lowest_median"] == pytest.approx(1.2**2)


def test_a_jagged_explosion_is_found():
    """High and low in turn, so never `patience` steps on end: most of the window is high."""
    m = monitor(window=10, explode_factor=10, explode_patience=5)
    losses = [1.0] * 10 + [1000.0, 1000.0, 2.0] * 10
    verdicts = [m.observe(step, loss, 1.0) for step, loss in enumerate(losses)]
    first = next(v for v in verdicts if v)
    assert 10 < first.step < 20


def test_never_learned_is_stalled_at_the_end():
    m = monitor(min_map=0.01)
    assert m.final(100, 0.0099).outcome == "stalled"
    assert m.final(100, 0.01).outcome == "converged"
    assert m.final(100, math.nan).outcome == "stalled"
    assert m.final(100, -1.0).outcome == "stalled"


def test_progress_is_judged_at_the_declared_step_only():
    m = monitor(progress=(ProgressCheck(at=0.5, min_map=0.05),))
    assert [step for step in range(100) if m.due(step)] == [49]
    assert m.progress(30, 0.0) is None
    assert m.progress(49, 0.06) is None
    verdict = m.progress(49, 0.04)
    assert verdict is not None
    assert (verdict.outcome, verdict.step) == ("stalled", 49)


def test_restored_state_gives_the_same_verdicts():
    losses = [1.0] * 10 + [50.0] * 10
    whole = monitor(explode_factor=10, explode_patience=6)
    first = monitor(explode_factor=10, explode_patience=6)
    expected = [whole.observe(s, v, 1.0) for s, v in enumerate(losses)]
    got = [first.observe(s, v, 1.0) for s, v in enumerate(losses[:13])]
    second = monitor(explode_factor=10, explode_patience=6)
    second.restore(first.state())
    got += [second.observe(s, v, 1.0) for s, v in enumerate(losses[13:], start=13)]
    assert got == expected
    assert any(got)


def test_of_the_recorded_runs_none_that_learned_is_stopped_and_each_that_exploded_is():
    """36 real runs that nobody judged (tests/benchmarks/record_curves.py). An exploded one is
    judged within a window and the patience of the step from which it was lost."""
    config = Monitor()
    learned, delays = 0, []
    for run in judging.curves():
        told = judging.judged(run, config)
        if run["mAP"] is not None and run["mAP"] >= config.min_map:
            learned += 1
            assert told is None, run["name"]
        elif (at := judging.lost(run)) is not None:
            assert told is not None, run["name"]
            assert told - at <= config.window + config.explode_patience, run["name"]
            delays.append((told - at) / run["steps"])
    assert learned
    assert delays


def test_when_a_run_was_lost_is_told_by_its_future():
    def run(losses, steps=100):
        return {"loss": losses, "grad_norm": [1.0] * len(losses), "steps": steps}

    assert judging.lost(run([2.0] * 100)) is None
    assert judging.lost(run([2.0] * 60 + [50.0] * 20 + [2.0] * 20)) is None  # it came back
    assert judging.lost(run([2.0] * 95 + [50.0] * 5)) is None  # a bad end is shorter than 20 steps
    assert judging.lost(run([2.0] * 30 + [math.nan])) == 30
    # of the 20 losses from step 50 on, 10 are 2 and 10 are 50: their median is 26, above 2 * 2
    assert judging.lost(run([2.0] * 60 + [50.0] * 40)) == 50
