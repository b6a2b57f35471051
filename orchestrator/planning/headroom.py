"""Arms that are likely to run out of GPU memory, told from past cells. Pure: without evidence
nothing is said."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.planning.history import Past
from orchestrator.planning.workload import Workload, workload_of
from orchestrator.sweep.identity import Texts

if TYPE_CHECKING:
    from orchestrator.planning.plan import Planned


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU; `memory_gb` in 1e9 bytes, None where it is not known."""

    name: str
    memory_gb: float | None = None


@dataclass(frozen=True)
class Tight:
    """An arm that may not fit into memory, and the past cell that says so."""

    arm: str
    evidence: str


def tight(cells: Iterable[Planned], pasts: Sequence[Past], gpu: Gpu | None = None) -> list[Tight]:
    """Of `cells` the arms that hold GPUs and may run out of their memory. `gpu` is what they will
    run on, where that is known; else the GPUs of the past cells stand for it."""
    texts = Texts()
    arms = {planned.cell.arm_label: planned for planned in cells if planned.cell.resources.gpus}
    of_network: dict[str, list[Past]] = {}
    for past in pasts:
        if past.workload and past.workload.gpus and _same_kind(past, gpu):
            of_network.setdefault(past.workload.network, []).append(past)
    found = []
    for label, planned in arms.items():
        workload = workload_of(planned.cell, texts)
        evidence = _evidence(workload, of_network.get(workload.network, []), gpu)
        if evidence:
            found.append(Tight(label, evidence))
    return found


def _evidence(workload: Workload, pasts: Sequence[Past], gpu: Gpu | None) -> str:
    """Why a cell of `workload` may not fit; empty when nothing says so. `pasts` have its network,
    newest first."""
    batch = workload.batch
    if any(past.settled and _batch(past) >= batch for past in pasts):
        return ""  # as much has fitted
    ran_out = [past for past in pasts if past.outcome == "oom" and _batch(past) <= batch]
    if ran_out:
        past = max(ran_out, key=_batch)
        return f"{past.label} ran out of memory at batch {_batch(past)}{_on(past)}"
    peaks = [past for past in pasts if past.settled and past.peak_gb]
    if not peaks:
        return ""
    # all of it grows with the batch: weights and optimiser do not, so this is rather too much
    past = max(peaks, key=_batch)
    memory = (gpu and gpu.memory_gb) or past.gpu_gb
    needs = (past.peak_gb or 0.0) * batch / _batch(past)
    if memory is None or needs <= memory:
        return ""
    return (
        f"{past.label} took {past.peak_gb:.1f} GB at batch {_batch(past)}{_on(past)}; at batch "
        f"{batch} that is up to {needs:.1f} GB of {memory:.1f} GB"
    )


def _same_kind(past: Past, gpu: Gpu | None) -> bool:
    """Whether a past cell ran on such GPUs, as far as one can tell. Ray says `H100` where the
    driver says `NVIDIA H100 80GB HBM3`."""
    if gpu is None or not gpu.name or not past.gpu:
        return True
    one, other = past.gpu.lower(), gpu.name.lower()
    return one in other or other in one


def _batch(past: Past) -> int:
    return past.workload.batch if past.workload else 0


def _on(past: Past) -> str:
    return f" on {past.gpu}" if past.gpu else ""
