"""Asking the nodes of a cluster what they have: a light task for each, which takes none of its
CPUs."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.cluster import node_facts
from orchestrator.cluster.connect import ClusterError
from orchestrator.cluster.gang import Job
from orchestrator.cluster.node_findings import Answer, findings
from orchestrator.findings import Finding

ANSWER_S = 120.0  # a node may first have to start a process for it, on a machine that is very busy
DATA_S = 900.0  # the names and sizes of all images, on a slow network disk
DAY_S = 86400.0


@dataclass(frozen=True)
class Node:
    id: str
    name: str
    ip: str
    resources: Mapping[str, float]


def living() -> list[Node]:
    """The nodes of the cluster that this process has joined; names tell them apart."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    names = [_name(node) for node in nodes]
    return [
        Node(
            node["NodeID"],
            name if names.count(name) == 1 else f"{name} {node['NodeID'][:8]}",
            node["NodeManagerAddress"],
            node["Resources"],
        )
        for node, name in zip(nodes, names, strict=True)
    ]


def _name(node: Mapping[str, Any]) -> str:
    ip = node["NodeManagerAddress"]
    own = node.get("NodeName") or ip  # --node-name; Ray's default is the address
    return f"{own if own != ip else node['NodeManagerHostname']} ({ip})"


@dataclass(frozen=True)
class Asked:
    """What nodes are asked about: the folder of cells, with the token that this process has left in
    it, the data that cells are trained on, and the CPUs and GPUs that a rank takes at least."""

    folder: Path
    token: str
    sources: list[dict[str, Any]] = field(default_factory=list)
    smallest: Sequence[tuple[float, float]] = ((1, 0),)

    def trains(self, resources: Mapping[str, float]) -> bool:
        cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
        return any(cpus >= each[0] and gpus >= each[1] for each in self.smallest)


@contextmanager
def asking(folder: Path, jobs: Iterable[Job]) -> Iterator[Asked]:
    """The question for a sweep whose cells' files are in `folder`. The token lies there for the
    length of the block. Raises ClusterError."""
    jobs = list(jobs)
    made = [place for place in (folder, folder.parent) if not place.exists()]
    token = folder / f".shared-{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        token.touch()
    except OSError as error:
        raise ClusterError(
            f"{folder}: cannot be written to ({error.strerror}); start from another folder"
        ) from None
    for old in folder.glob(".shared-*"):  # of a process that was killed
        with suppress(OSError):
            if time.time() - old.stat().st_mtime > DAY_S:
                old.unlink()
    try:
        yield Asked(folder, token.name, sources_of(jobs), smallest_of(jobs))
    finally:
        with suppress(OSError):
            token.unlink()
            for place in made:  # what is still empty
                place.rmdir()


def sources_of(jobs: Iterable[Job]) -> list[dict[str, Any]]:
    """The folders of data that cells are trained on, each once. Shapes are drawn where they are
    needed."""
    sources = (job["config"]["data"]["source"] for job in jobs)
    folders = {json.dumps(s, sort_keys=True): s for s in sources if s.get("kind") == "coco"}
    return list(folders.values())


def smallest_of(jobs: Iterable[Job]) -> list[tuple[float, float]]:
    each = {(job["cpus_per_worker"], job["gpus_per_worker"]) for job in jobs}
    return sorted(each) or [(1, 0)]


def this_process(asked: Asked, resources: Mapping[str, float] | None = None) -> Answer:
    """What the driver's process has to say of itself: what nodes are compared with."""
    facts = node_facts.node_facts(str(asked.folder), asked.token)
    resources = resources or {"CPU": os.cpu_count() or 1, "GPU": len(facts["gpus"])}
    data = tuple(node_facts.data_facts(asked.sources))
    return Answer("this machine", dict(resources), facts=facts, data=data)


class Asking:
    """Nodes that have been asked; `answers` are there once all have answered or had their time."""

    def __init__(self, nodes: Iterable[Node], asked: Asked) -> None:
        self._began = time.monotonic()
        self._asked = asked
        self._nodes = list(nodes)
        self._tasks: dict[str, tuple[Any, Any]] = {}
        with sent_along():
            for node in self._nodes:
                about = (str(asked.folder), asked.token)
                facts = on_node(node, node_facts.node_facts, *about)
                trains = bool(asked.sources) and asked.trains(node.resources)
                data = on_node(node, node_facts.data_facts, asked.sources) if trains else None
                self._tasks[node.id] = (facts, data)

    def answers(self, wait: bool = True) -> list[Answer] | None:
        """Waits for them, or with `wait=False` is None while some are missing."""
        import ray

        for number, patience in enumerate((ANSWER_S, DATA_S)):
            tasks = [pair[number] for pair in self._tasks.values() if pair[number] is not None]
            left = max(self._began + patience - time.monotonic(), 0.0)
            timeout = left if wait else 0.0
            missing = ray.wait(tasks, num_returns=len(tasks), timeout=timeout)[1] if tasks else []
            if missing and not wait and left:
                return None
        return [self._answer(node) for node in self._nodes]

    def _answer(self, node: Node) -> Answer:
        facts_task, data_task = self._tasks[node.id]
        facts, problem = result_of(facts_task, ANSWER_S)
        data, data_problem = result_of(data_task, DATA_S) if data_task is not None else ((), "")
        return Answer(
            f"node {node.name}",
            dict(node.resources),
            trains=self._asked.trains(node.resources),
            facts=facts,
            data=tuple(data or ()),
            problem=problem,
            data_problem=data_problem,
        )

    def findings(self, answers: Iterable[Answer], here: Answer) -> dict[str, list[Finding]]:
        """By node id."""
        folder, sources = str(self._asked.folder), self._asked.sources
        return {
            node.id: findings(answer, here, folder, sources)
            for node, answer in zip(self._nodes, answers, strict=True)
        }


def result_of(task: Any, patience_s: float, wait: bool = False) -> tuple[Any, str]:
    """What a task returned, or why it did not; with `wait` it has `patience_s` from now."""
    import ray

    if not ray.wait([task], timeout=patience_s if wait else 0)[0]:
        ray.cancel(task, force=True)
        return None, f"no answer within {patience_s:.0f} s"
    try:
        return ray.get(task), ""
    except ray.exceptions.RayTaskError as error:
        return None, f"{type(error.cause).__name__}: {error.cause}".split("\n", 1)[0]
    except ray.exceptions.RayError as error:
        return None, str(error).strip().split("\n", 1)[0]


def on_node(node: Node, function: Any, *arguments: Any, gpus: float = 0) -> Any:
    """A task of `function` on that node and no other."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(function).options(
        name=f"look at {node.name}",
        num_cpus=0,
        num_gpus=gpus,
        max_retries=0,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
    )
    return task.remote(*arguments)


@contextmanager
def sent_along() -> Iterator[None]:
    """Inside, the functions of `node_facts` are sent as they are here: a node may have an older
    package, in which they do not exist, or none."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(node_facts)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(node_facts)
