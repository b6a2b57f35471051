"""A campaign under Ray Tune, which runs the supervisors: one trial for each attempt at a cell."""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.cluster import evidence
from orchestrator.cluster.supervisor import BUNDLE, run_cell
from orchestrator.running.campaign import Campaign


def run_cells(campaign: Campaign, name: str) -> None:
    """Run every cell of `campaign` to its end."""
    from ray import tune

    scratch = Path(tempfile.mkdtemp(prefix="sweep-"))  # Tune's own books: the ledger is ours
    try:
        tune.Tuner(
            tune.with_resources(run_cell, tune.PlacementGroupFactory([BUNDLE])),
            tune_config=tune.TuneConfig(
                search_alg=_feeder(campaign),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.config["job"]["id"],
                trial_dirname_creator=lambda trial: f"{trial.config['job']['id']}-{trial.trial_id}",
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(scratch),
                verbose=0,
                callbacks=[_listener(campaign)],
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _feeder(campaign: Campaign) -> Any:
    """A tune.Searcher (made here because importing ray.tune takes seconds) that hands out cells."""
    from ray.tune.search import Searcher

    class Feeder(Searcher):  # type: ignore[misc]
        def suggest(self, trial_id: str) -> Any:
            if gang := campaign.next():
                return {"job": gang.work, "gang": gang.for_supervisor()}
            return Searcher.FINISHED if campaign.finished else None

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            """The listener is told."""

        def save(self, checkpoint_path: str) -> None:
            """The ledger is what a later start goes by."""

        def restore(self, checkpoint_path: str) -> None:
            """See `save`."""

        def __reduce__(self) -> Any:
            return Searcher, ()  # Tune saves it; the campaign is this process's own

        def __deepcopy__(self, memo: Any) -> Any:
            return self

    return Feeder()


def _listener(campaign: Campaign) -> Any:
    """A tune.Callback that sorts events by kind."""
    from ray import tune

    class Listener(tune.Callback):  # type: ignore[misc]
        def __reduce__(self) -> Any:
            return tune.Callback, ()  # Tune saves its callbacks; the campaign is this process's own

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
        ) -> None:
            ticket = _ticket(trial)
            handlers: dict[str, Callable[[], None]] = {
                "start": lambda: campaign.started(ticket, result),
                "points": lambda: campaign.points(ticket, result["points"]),
                "end": lambda: campaign.ended(ticket, result),
            }
            handlers[result["event"]]()

        def on_step_end(self, iteration: int, trials: list[Any], **_: Any) -> None:
            campaign.recorder.tick()

        def on_trial_complete(
            self, iteration: int, trials: list[Any], trial: Any, **_: Any
        ) -> None:
            campaign.closed(_ticket(trial))

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
            campaign.ended(_ticket(trial), {"fault": _dead_supervisor(trial)})
            campaign.closed(_ticket(trial))  # it may have said its result before it died

    return Listener()


def _ticket(trial: Any) -> str:
    return str(trial.config["gang"]["ticket"])


def _dead_supervisor(trial: Any) -> dict[str, Any]:
    """The fault of an attempt whose supervisor ended without a word."""
    from ray.exceptions import RayActorError, RayTaskError

    error = _error_of(trial)
    cause = error.cause if isinstance(error, RayTaskError) else error
    first = str(cause).strip().split("\n", 1)[0]
    if cause is None or isinstance(cause, RayActorError):
        reason = f"its supervisor died: {first}" if cause else "its supervisor died"
        return evidence.fault("lost", reason, trace=str(error or ""))
    return evidence.fault("crashed", f"{type(cause).__name__}: {first}", trace=str(error))


def _error_of(trial: Any) -> BaseException | None:
    """What ended the trial. `trial.get_pickled_error` reads a copy that is made later."""
    try:
        error: BaseException = pickle.loads(Path(trial.pickled_error_file).read_bytes())
    except Exception:  # there is none, or it is of a kind that cannot be read back here
        return None
    return error
