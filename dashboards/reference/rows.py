"""The rows of a report: those of the seed report, which is shipped, and those a plan names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

from dashboards.study import ReferenceRow


@dataclass(frozen=True)
class Row:
    """`config` is in the words of the file; `printed` has the cells of the report's table that hold
    more than the number."""

    row: ReferenceRow
    section: str = ""
    train_hours: float | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    printed: Mapping[str, str] = field(default_factory=dict)
    remark_on: str = "label"  # the cell that the remark is about

    def cell(self, metric: str) -> str:
        """As the report prints it; empty where there is no number."""
        value = self.row.metrics.get(metric)
        return self.printed.get(metric, "" if value is None else f"{value:.3f}")


@dataclass(frozen=True)
class Report:
    source: str
    heading: Mapping[str, str]  # of the first column, `label`, and of each metric
    protocol: Mapping[str, Any]
    rows: Mapping[str, Row]

    def __iter__(self) -> Any:
        return iter(self.rows.items())


def read_row(id_: str, given: Mapping[str, Any], common: Mapping[str, Any]) -> ReferenceRow:
    """A row as a reference file or the `reference` of a plan's cell holds it. `common`: the
    protocol of all rows (`reference_protocol` of a plan), which the row's own is laid over."""
    batch = (given.get("config") or {}).get("per_gpu_batch_x_gpus")
    return ReferenceRow(
        id_,
        str(given.get("label", id_)),
        given.get("metrics", {}),
        given.get("converged", True),
        given.get("remark", ""),
        {**common, "batch": batch, **given.get("protocol", {})},
    )


def shipped(name: str) -> dict[str, Any]:
    """The content of a file beside this one."""
    import yaml

    text = files("dashboards.reference").joinpath(name).read_text("utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


@cache
def seed_report() -> Report:
    data = shipped("seed_report.yaml")
    common = data["protocol"]
    rows = {
        id_: Row(
            read_row(id_, given, common),
            given.get("section", ""),
            given.get("train_hours"),
            given.get("config", {}),
            given.get("printed", {}),
            given.get("remark_on", "label"),
        )
        for id_, given in data["rows"].items()
    }
    return Report(data["source"], data["heading"], common, rows)
