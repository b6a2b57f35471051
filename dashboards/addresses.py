"""Where a person's browser finds MLflow, Ray's dashboard and the comparison pages, where that is
not where programs find them: inside a compose network, behind a tunnel or a proxy."""

from __future__ import annotations

import os
import re
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
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # [ without ], or a port that is none
        sound = False
    # a password would be shown, and more than a path would stand in the middle of a link
    if not sound or re.search(r"[@?#\s()<>]", given):
        raise ValueError(
            f"{variable} is an address that a browser opens, such as http://localhost:5000 or "
            "https://HOST/mlflow, without user, password, ? or #"
        )
    return given.rstrip("/")


def sweep_page(sweep: str, run: str) -> str:
    """The comparison page of a sweep's run `run` (a profile, other data or settings have another);
    empty where no address is known."""
    base = browser_address(DASHBOARDS)
    return f"{base}/sweep/{quote(sweep, safe='')}?variant={quote(run, safe='')}" if base else ""


def cell_page(sweep: str, run: str, cell: str) -> str:
    """That page, opened at a cell."""
    page = sweep_page(sweep, run)
    return f"{page}#cell-{quote(cell, safe='')}" if page else ""
