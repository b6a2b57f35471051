"""Whether torch can use the GPUs of every node, and whether ranks on different nodes reach each
other as in training: a sum over one process on each, by gloo on CPUs and by NCCL on GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.cluster import node_facts
from orchestrator.cluster.nodes import Node, on_node, result_of, sent_along
from orchestrator.findings import Finding
from orchestrator.wording import count

PATIENCE_S = 180.0  # importing torch from a network disk, and the time-out of the sum itself
INTERFACES = (
    "open the ports between the nodes, and set {} on every node to the interface that "
    "has its address (ip addr), before its ray start"
)

Said = dict[str, Any]


def reach(nodes: Sequence[Node]) -> list[Finding]:
    """Ask `nodes` of the cluster that this process has joined; they have the driver's package."""
    said = _sum(nodes, "cpu") if nodes else {}
    found = [
        finding for node in nodes for finding in of_torch(f"node {node.name}", node, said[node.id])
    ]
    if len(nodes) < 2:
        return found
    found.append(of_sum("gloo", nodes, said))
    with_gpu = [node for node in nodes if node.resources.get("GPU", 0) >= 1]
    if len(with_gpu) < 2 or not all(said[node.id].get("cuda") for node in with_gpu):
        return found
    if busy := _without_a_free_gpu(with_gpu):
        what = f"NCCL between the nodes was not tried: all GPUs of {', '.join(busy)} are in use"
        return [*found, Finding("nccl", "warning", what, "look again when they are free")]
    return [*found, of_sum("NCCL", with_gpu, _sum(with_gpu, "cuda"))]


def of_torch(name: str, node: Node, said: Said) -> list[Finding]:
    """What torch says of a node's GPUs."""
    counted = int(node.resources.get("GPU", 0))
    if "cuda" not in said:
        what = f"{name}: torch does not start: {said.get('error', 'it said nothing')}"
        return [Finding("torch", "failure", what, "install the package there again")]
    if said["cuda"]:
        versions = f"CUDA {said['version.cuda']}, NCCL {said['version.nccl'] or 'none'}"
        return [Finding("torch", "ok", f"{name}: torch sees {said['gpus']} GPUs with {versions}")]
    if not counted:
        return []
    build = said["version.cuda"]
    why = f"CUDA {build} does not start" if build else "this torch is built for CPUs"
    what = f"{name}: Ray counts {counted} GPUs, and torch can use none: {why}"
    remedy = "look at the driver (nvidia-smi) there" if build else "install torch with CUDA there"
    return [Finding("torch", "failure", what, remedy)]


def of_sum(how: str, nodes: Sequence[Node], said: Mapping[str, Said]) -> Finding:
    """Whether the sum came out right on all of `nodes`."""
    check, among = how.lower(), f"{how} between {count(len(nodes), 'node')}"
    failed = [node for node in nodes if "seconds" not in said[node.id]]
    if not failed:
        slowest = max(said[node.id]["seconds"] for node in nodes)
        return Finding(check, "ok", f"{among}: they reach each other ({slowest:.1f} s)")
    first = failed[0]
    problem = said[first.id].get("error", "it said nothing")
    return Finding(
        check,
        "failure",
        f"{among}: node {first.name} does not reach the others: {problem}",
        INTERFACES.format(f"{how.upper()}_SOCKET_IFNAME"),
    )


def _sum(nodes: Sequence[Node], device: str) -> dict[str, Said]:
    """What each node's process said, by node id."""
    gpus = 1 if device == "cuda" else 0
    with sent_along():
        meeting = ""
        if len(nodes) > 1:
            port, problem = result_of(on_node(nodes[0], node_facts.free_port), PATIENCE_S, True)
            if problem:
                return {node.id: {"error": problem} for node in nodes}
            meeting = f"tcp://{nodes[0].ip}:{port}"
        tasks = []
        for rank, node in enumerate(nodes):
            arguments = [meeting, str(rank), str(len(nodes)), device] if meeting else []
            task = on_node(node, node_facts.torch_facts, arguments, PATIENCE_S, gpus=gpus)
            tasks.append(task)
    said: dict[str, Said] = {}
    for node, task in zip(nodes, tasks, strict=True):
        facts, problem = result_of(task, 2 * PATIENCE_S, True)
        said[node.id] = facts or {"error": problem}
    return said


def _without_a_free_gpu(nodes: Sequence[Node]) -> list[str]:
    import ray

    left = ray._private.state.available_resources_per_node()
    return [node.name for node in nodes if left.get(node.id, {}).get("GPU", 0) < 1]
