"""Where a person's browser finds MLflow, Ray's dashboard and the comparison pages, where that is
not where programs find them: inside a compose network, behind a tunnel or a proxy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

MLFLOW, RAY, DASHBOARDS = (f"ABLATION_{name}_URL" for name in ("MLFLOW", "RAY", "DASHBOARDS"))


def browser_address(variable: str, environment: Mapping[str, str] = os.environ) -> str:
    """What `variable` says, without a last slash; empty where it is not set. Raises ValueError, one
    line, for what no browser opens."""
    given = environment.get(variable, "").strip()
    if not given:
        return ""
    try:
        parts = urlsplit(given)
        sound = parts.scheme in ("http", "https") and parts.hostname and not parts.username
    except ValueError:  # [ without ]
        sound = False
    if not sound:
        raise ValueError(
            f"{variable} is an address that a browser opens, such as http://localhost:5000; it has "
            "no user or password"
        )
    return given.rstrip("/")


def cell_page(sweep: str, cell: str) -> str:
    """The comparison page of a sweep, opened at a cell; empty where no address is known."""
    base = browser_address(DASHBOARDS)
    return f"{base}/sweep/{quote(sweep, safe='')}#cell-{quote(cell, safe='')}" if base else ""


def sweep_page(sweep: str) -> str:
    base = browser_address(DASHBOARDS)
    return f"{base}/sweep/{quote(sweep, safe='')}" if base else ""
