"""The report of a sweep beside its results: the page of `dashboards`, as an artifact of the sweep's
own run, so that it opens inside the MLflow UI."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dashboards.store import one_line
from orchestrator.tracking.ledger import REPORT, Ledger


def publish(ledger: Ledger, sweep_run: str, root: Path, say: Callable[[str], None]) -> list[str]:
    """Write the report of the sweep whose own run is `sweep_run`, and return its conclusions, the
    most important first. Everything is on record already: what goes wrong here costs no result, and
    is said. `root` is the folder of the embedded store."""
    try:
        # scipy and the templates take a second to import: planning a sweep does without
        from dashboards.document import document
        from dashboards.render import render
        from dashboards.results import Reader

        reader = Reader(root)
        study = reader.study(ledger.name, sweep_run)
        made = document(study, reader.curves(study))
        ledger.write(sweep_run, {REPORT: render(made)})
        return [conclusion["text"] for conclusion in made["conclusions"]]
    except Exception as error:
        say(
            f"{REPORT} was not made: {one_line(error)}; the results are on record "
            f"(python -m dashboards.report {ledger.name})"
        )
        return []
