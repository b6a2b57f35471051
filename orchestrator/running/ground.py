"""What a start trains on: the cluster and the gangs on it, which stay from stage to stage."""

from __future__ import annotations

from contextlib import ExitStack

from rich.console import Console

from orchestrator.cluster.connect import Cluster, connected, refuse_impossible
from orchestrator.cluster.gangs import Gangs
from orchestrator.planning.outlook import ahead_of
from orchestrator.planning.plan import Plan


class Ground:
    """`with Ground(address, screen) as ground: ...`: the cluster and the gangs on it, from when
    they are first needed to the end of the block."""

    def __init__(self, address: str | None, screen: Console) -> None:
        self._address, self._screen = address, screen
        self._stack = ExitStack()
        self._there: tuple[Cluster, Gangs] | None = None

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ready(self, plan: Plan) -> tuple[Cluster, Gangs]:
        """The cluster, which can hold what `plan` has to do, also after tuning, and the gangs.
        Raises ClusterError."""
        jobs = [plan.job(planned) for planned in (*ahead_of(plan), *plan.more)]
        if self._there is None:
            at = self._address
            self._screen.print(f"joining Ray at {at} ..." if at else "starting Ray ...")
            largest = max(job["ranks"] * job["cpus_per_worker"] for job in jobs)
            cluster = self._stack.enter_context(connected(self._address, largest))
            if cluster.dashboard:
                ask = "  (asks for a token once: ray get-auth-token)" if cluster.needs_token else ""
                self._screen.print(f"Ray dashboard: {cluster.dashboard}{ask}", soft_wrap=True)
            self._there = (cluster, self._stack.enter_context(Gangs()))
        refuse_impossible(jobs, self._there[0])
        return self._there
