"""Look at what a sweep needs before it is started: the cluster and every node of it, storage, data,
MLflow. One line for each thing, with the remedy for what is wrong.

    python -m orchestrator.doctor [SWEEP.yaml] [--profile NAME] [--data DIR] [--set a.b=c]
                                  [--address HOST:PORT] [--json]

Without a sweep the general checks are made; without a cluster, those of this machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from detcore.data.folder import DataError
from orchestrator.answers import EXIT_FAULTS, EXIT_INTERRUPTED, EXIT_OK, print_text, to_json
from orchestrator.cli import add_sweep_arguments, answered, plan_of
from orchestrator.cluster.connect import Cluster, ClusterError, connected, refuse_impossible
from orchestrator.cluster.gang import Job
from orchestrator.cluster.node_facts import torch_facts
from orchestrator.cluster.node_findings import Answer, findings
from orchestrator.cluster.nodes import Asking, Node, asking, living, this_process
from orchestrator.cluster.reach import PATIENCE_S, of_torch, reach
from orchestrator.findings import Finding, failures
from orchestrator.planning.outlook import ahead_of
from orchestrator.planning.plan import Plan
from orchestrator.sweep.absent import check_images
from orchestrator.wording import count

STYLES = {"ok": "green", "warning": "yellow", "failure": "bold red"}


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    codes: list[int] = []
    code = answered(lambda: codes.append(_doctor(args)))
    return codes[0] if codes else code or EXIT_INTERRUPTED  # no verdict


def _doctor(args: argparse.Namespace) -> int:
    plan = plan_of(args, need_data=False) if args.sweep else None
    shown: list[Finding] = []
    console = Console(highlight=False)

    def tell(found: Iterable[Finding]) -> None:
        """At once: some checks take a while."""
        for finding in found:
            shown.append(finding)
            if not args.json:
                console.print(_line(finding), soft_wrap=True)

    tell(_sweep(plan))
    answers = _machines(args, plan, tell)
    tell(_disk(plan))
    from orchestrator.tracking.answering import mlflow_findings  # MLflow takes seconds to import

    tell(mlflow_findings())
    wrong = failures(shown)
    if args.json:
        found = [finding.to_json() for finding in shown]
        print_text(to_json({"ok": not wrong, "findings": found, "nodes": [*map(vars, answers)]}))
    else:
        warnings = sum(finding.level == "warning" for finding in shown)
        print_text(_sum(len(shown), len(wrong), warnings))
    return EXIT_FAULTS if wrong else EXIT_OK


# ---------------------------------------------------------------- the checks


def _sweep(plan: Plan | None) -> list[Finding]:
    if plan is None:
        return []
    cells = [planned.cell for planned in plan.cells]
    what = f"{plan.sweep.name}: {count(len(cells), 'cell')} in {plan.folder}"
    found = [Finding("sweep", "ok", what)]
    try:
        check_images(cells, True, {p.cell.config.data.source: p.fingerprint for p in plan.cells})
    except DataError as error:
        found.append(Finding("data", "failure", f"this machine: {error}", "put it there"))
    return found


def _machines(
    args: argparse.Namespace, plan: Plan | None, tell: Callable[[Iterable[Finding]], None]
) -> list[Answer]:
    """The cluster and its nodes, or this machine; what each said of itself."""
    jobs = [plan.job(planned) for planned in ahead_of(plan)] if plan else []
    folder = plan.folder if plan else Path.cwd() / "mlruns" / "cells"
    address = args.address or os.environ.get("RAY_ADDRESS")
    answers: list[Answer] = []
    try:
        if not address:
            return [_this_machine(folder, jobs, tell)]
        with connected(address, 0) as cluster:
            nodes = living()
            tell([Finding("cluster", "ok", f"Ray at {address}: {cluster.where()}")])
            tell(_gangs(jobs, cluster))
            with asking(folder, jobs) as asked:
                asking_now = Asking(nodes, asked)
                here = this_process(asked)
                answers = asking_now.answers() or []
                found = asking_now.findings(answers, here)
            tell(f for f in findings(here, here, str(folder), asked.sources) if f.check == "data")
            for of_node in found.values():
                tell(of_node)
            # only what has the driver's package can be asked further
            alike = [n for n in nodes if not _differs(found[n.id])]
            tell(reach([node for node in alike if asked.trains(node.resources)]))
    except ClusterError as error:
        what, _, remedy = str(error).partition("; ")
        remedy = remedy or "start it (ray start --head), or mend --address"
        tell([Finding("cluster", "failure", what, remedy)])
    return answers


def _this_machine(
    folder: Path, jobs: list[Job], tell: Callable[[Iterable[Finding]], None]
) -> Answer:
    """Where a sweep without --address runs."""
    with asking(folder, jobs) as asked:
        here = this_process(asked)
    largest = max((job["ranks"] * job["cpus_per_worker"] for job in jobs), default=0)
    cpus = max(here.resources["CPU"], largest)  # in name only, see `connected`
    local = Cluster(({**here.resources, "CPU": cpus},), "", local=True, needs_token=False)
    what = "none is named (--address, RAY_ADDRESS): a sweep runs on this machine"
    tell([Finding("cluster", "ok", what)])
    tell(_gangs(jobs, local))
    tell(findings(here, here, str(folder), asked.sources))
    node = Node("", here.name, "", here.resources)
    tell(of_torch(here.name, node, torch_facts([], PATIENCE_S)))
    return here


def _gangs(jobs: list[Job], cluster: Cluster) -> list[Finding]:
    """Whether the cluster can hold every gang of the sweep."""
    if not jobs:
        return []
    asks = max(job["gpus_per_worker"] for job in jobs)
    if asks and not any(node.get("GPU", 0) for node in cluster.nodes):
        what = f"the sweep asks for GPUs ({asks:g} a worker), {cluster.where()} has none"
        remedy = "join nodes with GPUs (--address), or take a --profile that trains on CPUs"
        return [Finding("gpu", "failure", what, remedy)]
    try:
        refuse_impossible(jobs, cluster)
    except ClusterError as error:
        what, _, remedy = str(error).partition("; ")
        return [Finding("gang", "failure", what, remedy)]
    job = max(jobs, key=lambda job: (job["ranks"] * job["gpus_per_worker"], job["ranks"]))
    size = f"{job['ranks']} x {job['cpus_per_worker']:g} CPUs, {job['gpus_per_worker']:g} GPUs"
    return [Finding("gang", "ok", f"the largest gang fits ({size}: {job['label']})")]


def _disk(plan: Plan | None) -> list[Finding]:
    """Whether the checkpoints of the cells that are to come fit, if past ones tell how large they
    are."""
    if plan is None or not plan.folder.is_dir():
        return []
    sizes = [file.stat().st_size for file in plan.folder.glob("*/checkpoint.pt")]
    missing = [p for p in plan.cells if not (plan.folder / p.id / "checkpoint.pt").exists()]
    if not sizes or not missing:
        return []
    needs, free = max(sizes) * len(missing), shutil.disk_usage(plan.folder).free
    what = (
        f"{count(len(missing), 'cell')} without a checkpoint, at most {max(sizes) / 1e9:.2g} GB "
        f"each so far: {needs / 1e9:.2g} GB; {free / 1e9:.0f} GB are free"
    )
    if needs < free:
        return [Finding("disk", "ok", what)]
    return [Finding("disk", "failure", what, f"make room at {plan.folder}")]


# ---------------------------------------------------------------- inside


def _differs(found: Iterable[Finding]) -> bool:
    """Whether a node does not answer, or has another package."""
    return any(f.level == "failure" and f.check in ("node", "version", "source") for f in found)


def _line(finding: Finding) -> Text:
    text = Text(f"{finding.level:<8}", style=STYLES[finding.level])
    return text.append(f" {finding.check:<8} {finding}", style="default not bold")


def _sum(checks: int, wrong: int, warnings: int) -> str:
    rest = f", {count(warnings, 'warning')}" if warnings else ""
    return f"{count(checks, 'check')}: {f'{wrong} failed' if wrong else 'none failed'}{rest}"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.doctor",
        description="Check the cluster, every node of it, storage, data and MLflow, for a sweep or "
        "in general, and say what to do about what is wrong. Nothing is started or changed.",
        epilog="Exit codes: 0 nothing failed, 1 a check failed, 2 a mistake in the sweep file or "
        "the arguments.",
    )
    add_sweep_arguments(parser, optional=True)
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="a running Ray cluster (default: RAY_ADDRESS, else this machine)",
    )
    parser.add_argument("--json", action="store_true", help="all of it for programs")
    args = parser.parse_args(argv)
    for name in ("profile", "data", "set", "only"):
        if not args.sweep and getattr(args, name):
            parser.error(f"--{name} goes with a sweep")
    return args


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    raise SystemExit(code)
