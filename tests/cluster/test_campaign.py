"""What starts, ends and is tried again on a real Ray, with cells that sleep."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ray.util import placement_group_table

from orchestrator.cluster.gangs import Gangs
from orchestrator.cluster.queue import Limits
from orchestrator.running.campaign import Campaign
from orchestrator.running.tune_loop import run_cells
from orchestrator.sweep.failure import Failure, Policy
from tests.cluster.light import Noted, job
from tests.cluster.local_ray import local_ray

GPUS = 4


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    with local_ray(cpus=2, gpus=GPUS):
        yield


def run(jobs: list[dict[str, Any]], noted: Noted | None = None, **more: Any) -> Noted:
    """Run to the end; nothing of a gang is left then."""
    noted = noted or Noted()
    with Gangs() as gangs:
        run_cells(Campaign(jobs, noted, gangs, Policy(Failure()), **more), "light")
    assert {group["state"] for group in placement_group_table().values()} <= {"REMOVED"}
    return noted


def ends(noted: Noted) -> list[tuple[str, str]]:
    return [
        (id, end["fault"]["outcome"] if "fault" in end else end["result"]["outcome"])
        for _, id, end in noted.of("ended")
    ]


def test_gangs_of_all_sizes_run_once_and_never_more_than_there_is_room(tmp_path: Path) -> None:
    sizes = [1, 2, 4, 1]
    jobs = [
        job(f"{seed}-{arm}", seed, ranks=n, sleep_s=0.3, folder=str(tmp_path / f"{seed}-{arm}"))
        for seed in (0, 1)
        for arm, n in enumerate(sizes)
    ]
    noted = run(jobs)
    assert sorted(ends(noted)) == sorted((j["id"], "converged") for j in jobs)
    ranks = {j["id"]: j["ranks"] for j in jobs}
    held, most = 0, 0
    for _, what, id, _ in noted.events:
        held += {"started": ranks.get(id, 0), "ended": -ranks.get(id, 0)}.get(what, 0)
        most = max(most, held)
    assert 0 < most <= GPUS
    # the largest is the first of its seed, although the small ones had room as well
    order = [id for _, id, _ in noted.of("started")]
    assert order[0] == "0-2"
    assert order.index("1-2") < min(order.index(f"1-{arm}") for arm in (0, 1, 3))


def test_processes_stay_warm_for_cells_of_the_same_shape(tmp_path: Path) -> None:
    jobs = [job(f"c{i}", ranks=GPUS, folder=str(tmp_path / f"c{i}")) for i in range(5)]
    noted = run(jobs)
    ranks = {tags["ray.actor_ids"].partition(",")[2] for _, _, tags in noted.of("started")}
    assert len(ranks) == 1
    assert len(noted.of("ended")) == 5


@pytest.mark.parametrize(("how", "outcome"), [("raise", "crashed"), ("die", "lost")])
def test_a_faulted_cell_is_run_again_on_new_processes(
    tmp_path: Path, how: str, outcome: str
) -> None:
    folder = tmp_path / "c"
    config = {"seed": 0, "train": {"steps": 1}, "sleep_s": 0.0, "once": how}
    noted = run([job("c", ranks=2, config=config, folder=str(folder))])
    assert ends(noted) == [("c", outcome), ("c", "converged")]
    first, second = (
        set(tags["ray.actor_ids"].split(",")[1:]) for _, _, tags in noted.of("started")
    )
    assert not first & second


def test_a_gang_that_cannot_begin_is_a_fault_of_its_cell_alone(tmp_path: Path) -> None:
    """The module that trains cannot be imported."""
    broken = job("c", entry="tests.cluster.nowhere:train", folder=str(tmp_path))
    noted = run([broken, job("fine", folder=str(tmp_path / "fine"))])
    by_cell = Counter(ends(noted))
    assert by_cell["fine", "converged"] == 1
    assert by_cell["c", "crashed"] == 3  # the first attempt and two more
    fault = next(end["fault"] for _, id, end in noted.of("ended") if id == "c")
    assert "No module named 'tests.cluster.nowhere'" in fault["reason"]


def mine() -> list[int]:
    """The processes that this one has started, and those they have."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(entry.name)] = int(
                (entry / "stat").read_text().rpartition(")")[2].split()[1]
            )
    found = [os.getpid()]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def title(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def test_a_dead_supervisor_costs_its_cell_an_attempt(tmp_path: Path) -> None:
    class Killer(Noted):
        def started(self, job: dict[str, Any], ray_tags: dict[str, str]) -> None:
            super().started(job, ray_tags)
            if len(self.of("started")) == 1:
                (supervisor,) = (pid for pid in mine() if title(pid).startswith("ray::Implicit"))
                os.kill(supervisor, signal.SIGKILL)

    noted = run([job("c", sleep_s=1.0, folder=str(tmp_path))], Killer())
    assert ends(noted) == [("c", "lost"), ("c", "converged")]
    assert "its supervisor died" in noted.of("ended")[0][2]["fault"]["reason"]


class Hand:
    """A control as a hand at `ctl` would move it."""

    def __init__(self, cancel: set[str] | None = None, drain_after: int | None = None) -> None:
        self.cancel, self.drain_after, self.ended = cancel or set(), drain_after, 0

    def read(self, running: Any, ended: Any) -> None:
        self.ended = len(ended)

    @property
    def draining(self) -> bool:
        return self.drain_after is not None and self.ended >= self.drain_after

    def starting(self, cell: str) -> bool:
        return not self.draining and cell not in self.cancel

    @property
    def drops(self) -> bool:
        return bool(self.cancel)

    def dropped(self, cell: str) -> bool:
        return cell in self.cancel and cell.startswith("waiting")

    def cancelled(self, running: set[str]) -> set[str]:
        return running & self.cancel

    def reason(self, cell: str) -> str:
        return "by hand"


def test_cells_are_cancelled_while_they_run_and_while_they_wait(tmp_path: Path) -> None:
    class Late(Hand):
        def starting(self, cell: str) -> bool:
            return not cell.startswith("waiting")

        def cancelled(self, running: set[str]) -> set[str]:
            began = {id for _, id, _ in noted.of("started")}
            return running & self.cancel & began

    noted = Noted()
    jobs = [
        job("running", sleep_s=600.0, folder=str(tmp_path / "a")),
        job("other", sleep_s=0.5, folder=str(tmp_path / "b")),
        job("waiting", folder=str(tmp_path / "c")),
    ]
    run(jobs, noted, control=Late({"running", "waiting"}))
    assert sorted(ends(noted)) == [("other", "converged"), ("running", "cancelled")]
    assert [(id, why) for _, id, why in noted.of("dropped")] == [("waiting", "by hand")]
    faults = [end["fault"]["reason"] for _, _, end in noted.of("ended") if "fault" in end]
    assert faults == ["by hand"]


def test_a_drained_sweep_ends_what_runs_and_starts_no_more(tmp_path: Path) -> None:
    jobs = [job(f"c{i}", sleep_s=0.2, folder=str(tmp_path / f"c{i}")) for i in range(6)]
    noted = run(jobs, control=Hand(drain_after=2), limits=Limits(cells=1))
    assert ends(noted) == [("c0", "converged"), ("c1", "converged")]


def test_a_spent_budget_starts_no_more_and_more_cells_come_when_all_are_done(
    tmp_path: Path,
) -> None:
    rounds = [[job(f"{r}{i}", folder=str(tmp_path / f"{r}{i}")) for i in range(2)] for r in "abc"]
    later = iter(rounds[1:])
    noted = Noted()
    run(
        rounds[0],
        noted,
        more=lambda: next(later, []),
        spent=lambda: len(noted.of("ended")) >= 4,
    )
    assert sorted(id for id, _ in ends(noted)) == ["a0", "a1", "b0", "b1"]
