"""The evaluations of one run: at most one is being scored at a time, beside training or while it
waits."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from detcore.beside import Beside, Died
from detcore.config import Config
from detcore.data.coco import CocoSplit
from detcore.detectors import Detector
from detcore.distributed import Gang
from detcore.predict import Evaluation, predict, score

SIGN_S = 5.0  # between two signs of life


class Evaluations:
    """`with Evaluations(...) as evaluations`: every rank calls the same methods at the same steps.

    Scoring thousands of images takes a core a minute or two. With `runtime.scoring` beside it does
    so in a process of its own, while all ranks train on; leaving ends it.
    """

    newest: Evaluation | None = None

    def __init__(
        self,
        split: CocoSplit,
        config: Config,
        gang: Gang,
        device: torch.device,
        file: Path,
        alive: Callable[[], object],
    ) -> None:
        self._split, self._config, self._gang = split, config, gang
        self._device, self._file, self._alive = device, file, alive
        self._step: int | None = None  # of the one that has begun and not ended
        self._score: Callable[[], Evaluation] | None = None  # rank 0's
        self._beside: Beside | None = None  # rank 0's
        scoring = config.runtime.scoring
        self.beside = scoring == "beside" or (scoring == "auto" and device.type == "cuda")

    def __enter__(self) -> Evaluations:
        return self

    def __exit__(self, *_: object) -> None:
        if self._beside:
            self._beside.end()

    def begin(self, detector: Detector, step: int, beside: bool = False) -> None:
        """Run the weights after `step` steps over the split; the score follows with `end`."""
        found = predict(detector, self._split, self._config, self._gang, self._device, self._alive)
        self._step = step
        if found:
            self._score = partial(score, found, self._split, self._config, self._file)
            self._beside = _begun(self._score) if beside else None

    @property
    def ready(self) -> bool:
        """Whether `end` would not wait; rank 0 alone knows."""
        return self._beside is not None and self._beside.is_done()

    def end(self) -> tuple[int, Evaluation] | None:
        """Wait for the evaluation that has begun: its step, and the same values on every rank. None
        when none has."""
        if self._step is None:
            return None
        found = self._scored(self._score) if self._score else None
        step, self.newest = self._step, self._gang.broadcast(found)
        self._step = self._score = self._beside = None
        assert self.newest is not None
        return step, self.newest

    def _scored(self, score: Callable[[], Evaluation]) -> Evaluation:
        if self._beside:
            try:
                while not self._beside.is_done(SIGN_S):
                    self._alive()
                answer: Evaluation = self._beside.result()
                return answer
            except Died as died:  # what it raised is raised here
                _warn(str(died))
        with _kept(self._alive):
            return score()


def _begun(score: Callable[[], Evaluation]) -> Beside | None:
    """In a process of its own; None where none can be had."""
    try:
        return Beside(score)
    except (OSError, EOFError) as error:
        _warn(str(error) or type(error).__name__)
        return None


def _warn(what: str) -> None:
    warnings.warn(
        f"no score came from the process beside training ({what}); "
        "the evaluation is scored while training waits",
        RuntimeWarning,
        stacklevel=3,
    )


@contextmanager
def _kept(alive: Callable[[], object]) -> Iterator[None]:
    """Give signs of life from a thread: scoring thousands of images takes minutes."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(SIGN_S):
            alive()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
