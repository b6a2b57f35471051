"""Where a cell can be watched and looked up: Ray's dashboard, MLflow and the comparison pages."""

from __future__ import annotations

from collections.abc import Mapping

from dashboards.addresses import RAY, browser_address, cell_page
from orchestrator.cluster.connect import Cluster


def watch_tags(cluster: Cluster | None, ray_tags: Mapping[str, str]) -> dict[str, str]:
    """`ray_tags` of a cell that has begun and, with a dashboard, `ray.url`: the page of its first
    rank. `ray.stays` is false for the dashboard of a local cluster, which ends with the sweep."""
    tags = dict(ray_tags)
    if not cluster:
        return tags
    # the variable is about the cluster that is joined, not about one of this machine
    address = (not cluster.local and browser_address(RAY)) or cluster.dashboard
    actors = tags.get("ray.actor_ids", "").split(",")
    if address and len(actors) > 1:  # the first is the supervisor
        tags["ray.url"] = f"{address}/#/actors/{actors[1]}"
        tags["ray.stays"] = str(not cluster.local).lower()
    return tags


def cell_note(
    sweep: str, experiment: str, sweep_run: str, cell: str, ray_tags: Mapping[str, str]
) -> str:
    """What MLflow shows above a cell's numbers, as Markdown: where else this cell is."""
    links = []
    if page := cell_page(sweep, sweep_run, cell):
        links.append(f"[Beside the other cells]({page})")
    links.append(f"[The sweep](#/experiments/{experiment}/runs/{sweep_run})")
    if url := ray_tags.get("ray.url"):
        until = "" if ray_tags.get("ray.stays") == "true" else " until the sweep ends"
        links.append(f"[Ray's dashboard]({url}) (under Tasks History{until})")
    return f"{' · '.join(links)}\n\nWhy it ended as it did: `python -m orchestrator.why {cell}`"
