"""How a cell reads as an MLflow run, and back: the names of DESIGN.md section 6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dashboards.outcomes import FAULTS, SETTLED
from dashboards.store import cut
from detcore.result import METRICS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

STATUS = dict.fromkeys(SETTLED, "FINISHED") | dict.fromkeys(FAULTS, "FAILED")
STATUS["cancelled"] = "KILLED"

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#000000")
"""Okabe and Ito's palette: told apart with any colour vision. One per level of the first axis."""


@dataclass(frozen=True)
class CellInfo:
    """What the ledger says about a cell. `config` and `base_config` are resolved, as nested plain
    dicts."""

    id: str
    label: str
    axes: Mapping[str, Any]
    seed: int
    config: Mapping[str, Any]
    base_config: Mapping[str, Any]
    ref: str | None = None
    resources: Mapping[str, Any] = field(default_factory=dict)
    role: str = "report"  # `tune`: it chooses a value and is in no table
    tuned: Mapping[str, Any] = field(default_factory=dict)  # the values of `tune`
    provenance: Mapping[str, str] = field(default_factory=dict)  # data.fingerprint, code.version


@dataclass(frozen=True)
class Settled:
    """How an attempt ended, in whichever sweep: of most cells, the newest result."""

    run_id: str
    outcome: str
    reason: str
    step: int | None
    metrics: dict[str, float]  # the 12 COCO metrics
    values: dict[str, float]  # train_hours, images_per_s, ...
    sweep: str


@dataclass(frozen=True)
class OpenAttempt:
    """An attempt that no one has closed. `owner`: `gone` (its orchestrator died), `alive` (another
    orchestrator on this host is at it) or `elsewhere` (one on the host `host`, of which we cannot
    tell)."""

    run_id: str
    cell_id: str
    label: str
    attempt: int
    folder: Path | None
    sweep: str
    owner: str
    host: str
    began: float  # seconds since the epoch
    gpus: float  # of all its workers


def cell_tags(cell: CellInfo) -> dict[str, str]:
    """What is known of a cell before it starts, as tags; its outcome is `running`."""
    tags = {
        "run.kind": "cell",
        "cell.id": cell.id,
        "cell.label": cell.label,
        # set from the start: MLflow's != passes over runs that lack the tag
        "cell.outcome": "running",
        "cell.seed": str(cell.seed),
    }
    tags |= {f"axis.{name}": cut(str(level), 5000) for name, level in cell.axes.items()}
    tags |= {f"resources.{name}": str(value) for name, value in cell.resources.items()}
    tags |= {f"tune.{name}": str(value) for name, value in cell.tuned.items()}
    if cell.role == "tune":  # no tag for others: cells from before there was tuning have none
        tags["cell.role"] = cell.role
    if cell.ref is not None:
        tags["ref.id"] = cell.ref
    return tags | dict(cell.provenance)


def colour_of(cell: CellInfo, axes: Mapping[str, Sequence[str]]) -> str:
    """One colour per level of the first axis, so that a curve's colour means the same in all
    charts."""
    for name, levels in axes.items():
        level = str(cell.axes.get(name))
        return COLOURS[(list(levels).index(level) if level in levels else 0) % len(COLOURS)]
    return COLOURS[0]


def read_settled(run: Run) -> Settled:
    tags, numbers_ = run.data.tags, run.data.metrics
    return Settled(
        run_id=run.info.run_id,
        outcome=tags["cell.outcome"],
        reason=tags.get("cell.reason", ""),
        step=whole(tags.get("cell.step")),
        metrics={key: numbers_[key] for key in METRICS if key in numbers_},
        values={key: value for key, value in numbers_.items() if key not in METRICS},
        sweep=tags.get("sweep.name", ""),
    )


def read_attempt(run: Run, owner: str) -> OpenAttempt:
    tags = run.data.tags
    folder = tags.get("cell.folder")
    return OpenAttempt(
        run_id=run.info.run_id,
        cell_id=tags.get("cell.id", ""),
        label=tags.get("cell.label", ""),
        attempt=whole(tags.get("cell.attempt")) or 1,
        folder=Path(folder) if folder else None,
        sweep=tags.get("sweep.name", ""),
        owner=owner,
        host=tags.get("orchestrator.host", "?"),
        began=run.info.start_time / 1000,
        gpus=_number(tags.get("resources.workers"))
        * _number(tags.get("resources.gpus_per_worker")),
    )


def cell_params(cell: CellInfo) -> dict[str, str]:
    """The levels of the axes, and every setting that is not the base's, by its dotted path."""
    here, base = _flat(cell.config), _flat(cell.base_config)
    params = {path: here[path] for path in here if here[path] != base.get(path)}
    params |= {path: None for path in base if path not in here}
    params |= {**cell.tuned, **cell.axes}
    return {cut(path, 250): cut(str(value), 500) for path, value in params.items()}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def as_yaml(config: Mapping[str, Any]) -> str:
    """The whole config as a file that `python -m detcore.train` takes."""
    text: str = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    return text


def log_params(client: MlflowClient, run_id: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    items = [Param(key, value) for key, value in params.items()]
    for start in range(0, len(items), 100):  # MLflow's limit of one request
        client.log_batch(run_id, params=items[start : start + 100])


def open_sweep_run(
    client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str]
) -> str:
    """The run of the last start with the same `sweep.variant`, opened again, or a new one; its
    id."""
    query = f"tags.`run.kind` = 'sweep' and tags.`sweep.variant` = '{tags['sweep.variant']}'"
    order = ["attributes.start_time DESC"]
    old = client.search_runs([experiment_id], query, max_results=1, order_by=order)
    if not old:
        run = client.create_run(experiment_id, tags=dict(tags), run_name=name)
        return str(run.info.run_id)
    run_id = str(old[0].info.run_id)
    client.update_run(run_id, status="RUNNING")
    for key, value in tags.items():
        client.set_tag(run_id, key, value)
    return run_id


def whole(text: str | None) -> int | None:
    """A tag that holds a whole number; None for any other."""
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _number(text: str | None) -> float:
    try:
        return float(text) if text is not None else 0.0
    except ValueError:
        return 0.0
