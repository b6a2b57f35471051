"""Cells that go wrong on purpose, for tests.benchmarks.chaos: what a rank runs, and a command that
is `orchestrator.run` with these in the place of detcore's training.

    python -m tests.benchmarks.chaos_cells SWEEP.yaml [arguments of orchestrator.run]

The axis `fault` says what happens, in the middle of the cell's first attempt and to one rank, which
the seed chooses; what is run again ends well. `light` keeps detcore's promises (curves, checkpoint,
result, a step that all ranks take together) without torch; `trained` is detcore itself.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

STRIKE = 8  # the step at which it happens
STEP_S = 0.05
SAVE_EVERY = 5
GONE = "gone"
HEAVY = ("nan", "explosion", "torch_oom")  # what happens to numbers needs numbers

Report = Callable[[dict[str, Any]], None]
Job = dict[str, Any]


def fault_of(job: Job) -> str:
    return str(job["label"]).split()[0].removeprefix("fault=")


# ---------------------------------------------------------------- without torch


def light(
    job: Job,
    rank: int,
    local_rank: int,
    meeting: str,
    *,
    report: Report,
    alive: Callable[[], bool],
) -> dict[str, Any]:
    """`config.train.steps` steps of 0.05 s."""
    folder, steps = Path(job["folder"]), job["config"]["train"]["steps"]
    first = _first_step(folder)
    peers = _Peers(folder, meeting, rank, job["ranks"])
    curve = _Curve(folder / "metrics.jsonl", first, report) if rank == 0 else None
    if rank == 0:
        (folder / "result.json").unlink(missing_ok=True)
    for step in range(first, steps):
        alive()
        if step == STRIKE and rank == job["config"]["seed"] % job["ranks"]:
            with peers.told():
                _strike_once(folder, fault_of(job))
        time.sleep(STEP_S)
        peers.meet(step)
        if curve:
            curve.add(step, {"loss/total": 1.0 / (1 + step), "lr": 0.1})
            if (step + 1) % SAVE_EVERY == 0:
                _replace(folder / "checkpoint.json", str(step + 1))
    result = {
        "outcome": "converged",
        "reason": "",
        "step": steps,
        "metrics": {"mAP": 0.5},
        "values": {},
        "evidence": {},
    }
    if rank == 0:
        _replace(folder / "result.json", json.dumps(result))
    return result


def _first_step(folder: Path) -> int:
    try:
        return int((folder / "checkpoint.json").read_text())
    except OSError:
        return 0


def _replace(file: Path, text: str) -> None:
    partial = file.with_name(f"{file.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(file)


class _Curve:
    """metrics.jsonl as detcore.curves writes it: after a checkpoint, what it does not know goes."""

    def __init__(self, file: Path, first: int, report: Report) -> None:
        lines = file.read_text().splitlines() if first and file.exists() else []
        kept = [ln for ln in lines if ln.endswith("}") and json.loads(ln)["step"] < first]
        file.write_text("".join(f"{line}\n" for line in kept))
        self.file, self.report = file.open("a", buffering=1), report

    def add(self, step: int, values: dict[str, float]) -> None:
        point = {"step": step, "time": time.time(), "values": values}
        self.file.write(json.dumps(point) + "\n")
        self.report(point)


class _Peers:
    """The ranks of an attempt take every step together, as an all-reduce makes them: one that
    stands still stops all, one that is gone is an error in the others, in gloo's words. They are on
    one machine."""

    def __init__(self, folder: Path, meeting: str, rank: int, ranks: int) -> None:
        import ray

        name = meeting.rpartition("/")[2].rpartition(":")[2].lstrip(".")
        self.files = [folder / f".at-{name}-{i}" for i in range(ranks)]
        self.mine = self.files[rank]
        self.node = ray.get_runtime_context().get_node_id()

    def meet(self, step: int) -> None:
        _replace(self.mine, f"{os.getpid()} {step} {self.node}")
        for file in self.files:
            while not self._is_there(file, step):
                time.sleep(0.005)

    @contextmanager
    def told(self) -> Iterator[None]:
        """A rank that leaves with an error closes its connections."""
        try:
            yield
        except BaseException:
            _replace(self.mine, f"{GONE} -1 {self.node}")
            raise

    def _is_there(self, file: Path, step: int) -> bool:
        try:
            pid, reached, _ = file.read_text().split()
        except OSError:
            return False
        if int(reached) >= step:
            return True
        if pid == GONE or not Path(f"/proc/{pid}").exists():
            raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")
        return False


def where(folder: Path) -> tuple[int, str] | None:
    """The step that a light cell has reached and the node of its rank 0; None before its first."""
    files = sorted(folder.glob(".at-*-0"), key=lambda f: f.stat().st_mtime)
    try:
        _, step, node = files[-1].read_text().split()
    except (IndexError, OSError):
        return None
    return int(step), node


def _strike_once(folder: Path, fault: str) -> None:
    mark = folder / ".struck"
    if fault in STRIKES and not mark.exists():
        mark.touch()
        STRIKES[fault]()


def _no_host_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, hard))
    try:
        bytearray(2**30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _full_disk() -> None:
    with Path("/dev/full").open("w") as file:  # the kernel's own "no space left"
        file.write("x")


STRIKES: dict[str, Callable[[], Any]] = {
    "exit": lambda: sys.exit(1),
    "os_exit": lambda: os._exit(1),
    "sigkill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "sigsegv": lambda: ctypes.string_at(0),  # a signal that is sent does not stop the thread
    "sigstop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "host_oom": _no_host_memory,
    "disk_full": _full_disk,
}


# ---------------------------------------------------------------- with detcore


def trained(
    job: Job, rank: int, local_rank: int, meeting: str, *, report: Report, alive: Callable[[], bool]
) -> dict[str, Any]:
    """detcore's training, one step of which is tampered with; `torch_oom` is in one rank."""
    train = importlib.import_module("detcore.train")
    train_cell = importlib.import_module("orchestrator.cluster.trainer").train_cell
    fault, step, original = fault_of(job), 0, train.train_step
    mine = rank == job["config"]["seed"] % job["ranks"]

    def tampered(forward: Any, detector: Any, *rest: Any) -> Any:
        nonlocal step
        if step == STRIKE and (mine or fault == "explosion"):
            _tamper(fault, detector, job["config"]["seed"])
        step += 1
        return original(forward, detector, *rest)

    train.train_step = tampered
    try:
        result: dict[str, Any] = train_cell(
            job, rank, local_rank, meeting, report=report, alive=alive
        )
        return result
    finally:
        train.train_step = original


def _tamper(fault: str, detector: Any, seed: int) -> None:
    import torch

    if fault == "nan":
        next(detector.parameters()).data.fill_(float("nan"))
    elif fault == "explosion":
        losses = detector.losses
        detector.losses = lambda *given: {k: 100 * v for k, v in losses(*given).items()}
    elif seed % 4 < 2:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    else:
        torch.empty(2**45)  # more than any host has


# ---------------------------------------------------------------- the command


def main() -> int:
    from orchestrator import run
    from orchestrator.planning import preflight
    from orchestrator.planning.plan import Plan, Planned

    plain = Plan.job

    def job(plan: Plan, planned: Planned) -> Job:
        out = plain(plan, planned)
        fault = fault_of(out)
        module, function = "tests.benchmarks.chaos_cells", "trained" if fault in HEAVY else "light"
        if fault == "import":
            module = "tests.benchmarks.no_such_module"
        return {**out, "entry": f"{module}:{function}"}

    Plan.job = job  # type: ignore[method-assign]
    preflight.check_effects = lambda plan: ""  # the arms differ in what goes wrong
    return run.main()


if __name__ == "__main__":
    raise SystemExit(main())
