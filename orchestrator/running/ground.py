"""What a start trains on: the cluster and the gangs on it, which stay from stage to stage."""

from __future__ import annotations

from contextlib import ExitStack

from rich.console import Console

from orchestrator.answers import speaker
from orchestrator.cluster.admission import Admission
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
        self._admission: Admission | None = None

    def __enter__(self) -> Ground:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ready(self, plan: Plan) -> tuple[Cluster, Gangs]:
        """The cluster, which can hold what `plan` has to do, also after tuning, and the gangs.
        Every node of a cluster that was joined has the driver's code, data and storage. Raises
        ClusterError."""
        jobs = [plan.job(planned) for planned in (*ahead_of(plan), *plan.more)]
        if self._there is None:
            at = self._address
            self._screen.print(f"joining Ray at {at} ..." if at else "starting Ray ...")
            largest = max(job["ranks"] * job["cpus_per_worker"] for job in jobs)
            cluster = self._stack.enter_context(connected(self._address, largest))
            if cluster.dashboard:
                ask = "  (asks for a token once: ray get-auth-token)" if cluster.needs_token else ""
                self._screen.print(f"Ray dashboard: {cluster.dashboard}{ask}", soft_wrap=True)
            if not cluster.local:
                look = Admission(plan.folder, speaker(self._screen))
                self._admission = self._stack.enter_context(look)
            gangs = Gangs(self._admission.closed if self._admission else None)
            self._there = (cluster, self._stack.enter_context(gangs))
        refuse_impossible(jobs, self._there[0])
        if self._admission:
            self._admission.check(jobs)
        return self._there
