"""Run cells as gangs under Ray Tune, and turn what the gangs say into ledger entries and
progress."""

from __future__ import annotations

import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from orchestrator.gang import Job
from orchestrator.supervisor import GangLost, bundles, run_cell

LOST_RETRIES = 3  # further attempts after a gang's process or node has gone


class Recorder(Protocol):
    """Who is told what happens to the cells (the ledger and the progress display, joined in
    orchestrator.run)."""

    def started(self, job: Job, ray_tags: dict[str, str]) -> None: ...
    def points(self, job: Job, points: list[dict[str, Any]]) -> None: ...
    def ended(self, job: Job, end: dict[str, Any]) -> None: ...
    def tick(self) -> None: ...


def run_cells(
    jobs: Iterable[Job],
    recorder: Recorder,
    *,
    name: str,
    max_concurrent: int | None = None,
    retries: int = LOST_RETRIES,
) -> None:
    """Run every job to its end, in the order of `in_order`. A gang whose process or node dies is
    started again from its checkpoint, up to `retries` times.
    """
    from ray import tune

    todo = in_order(jobs)
    scratch = Path(tempfile.mkdtemp(prefix="sweep-"))  # Tune's own books: the ledger is ours
    try:
        tune.Tuner(
            tune.with_resources(run_cell, lambda params: bundles(params["job"])),
            param_space={"job": tune.grid_search(todo)},
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                max_concurrent_trials=max_concurrent,
                trial_name_creator=lambda trial: trial.config["job"]["id"],
                trial_dirname_creator=lambda trial: trial.config["job"]["id"],
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(scratch),
                verbose=0,
                callbacks=[_listener(recorder)],
                failure_config=tune.FailureConfig(max_failures=retries),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Large gangs first, because small ones would overtake them for ever; then seed by seed, so
    that a partial table is a comparison already; then few steps first, so that there soon is one.
    """
    jobs = list(jobs)
    seeds = list(dict.fromkeys(job["config"]["seed"] for job in jobs))

    def rank(job: Job) -> tuple[float, int, int]:
        size = job["ranks"] * max(job["gpus_per_worker"], 0.001)
        return -size, seeds.index(job["config"]["seed"]), job["config"]["train"]["steps"]

    return sorted(jobs, key=rank)


def _listener(recorder: Recorder) -> Any:
    """A tune.Callback (made here because importing ray.tune takes seconds) that sorts events by
    kind."""
    from ray import tune

    class Listener(tune.Callback):  # type: ignore[misc]
        def __reduce__(self) -> Any:
            return tune.Callback, ()  # Tune saves its callbacks; the recorder is this process's own

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
        ) -> None:
            job = trial.config["job"]
            handlers: dict[str, Callable[[], None]] = {
                "start": lambda: recorder.started(job, _ray_tags(result)),
                "points": lambda: recorder.points(job, result["points"]),
                "end": lambda: recorder.ended(job, result),
            }
            handlers[result["event"]]()

        def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
            recorder.tick()

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
            recorder.ended(trial.config["job"], _lost(trial, again=True))

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
            recorder.ended(trial.config["job"], _lost(trial, again=False))

    return Listener()


def _ray_tags(start: dict[str, Any]) -> dict[str, str]:
    return {
        "ray.job_id": start["job"],
        "ray.actor_ids": ",".join(start["actors"]),
        "ray.nodes": ",".join(start["nodes"]),
    }


def _lost(trial: Any, again: bool) -> dict[str, Any]:
    """An attempt that ended without a word of its own."""
    from ray.exceptions import RayActorError, RayTaskError

    error = _error_of(trial)
    cause = error.cause if isinstance(error, RayTaskError) else error
    lost = cause is None or isinstance(cause, GangLost | RayActorError)
    first = str(cause).strip().split("\n", 1)[0]
    if isinstance(cause, GangLost):
        reason = first
    elif lost:
        reason = f"its supervisor died: {first}" if cause else "its supervisor died"
    else:
        reason = f"{type(cause).__name__}: {first}"
    return {
        "fault": {
            "outcome": "lost" if lost else "crashed",
            "reason": reason,
            "traceback": str(error or ""),
            "again": again,
            "time": time.time(),
        }
    }


def _error_of(trial: Any) -> BaseException | None:
    """What ended the trial. `trial.get_pickled_error` reads a copy that is made later."""
    try:
        error: BaseException = pickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception:  # there is none, or it is of a kind that cannot be read back here
        return None
    return error
