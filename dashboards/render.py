"""The page of a sweep, and the list of sweeps, as one HTML file each: the JSON document in it, and
the JavaScript that draws it. The file that a sweep keeps and the page that is served are the same.

Nothing is loaded from anywhere, and the page says so to the browser: its Content-Security-Policy
names the digests of the one script and the one style sheet that it may use. Names that users choose
are data in it, and get into the page as text only.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "page"
_SCRIPTS = (
    "dom.js",
    "table.js",
    "scales.js",
    "forest.js",
    "lines.js",
    "arms.js",
    "armtable.js",
    "cells.js",
    "head.js",
    "map.js",
    "curves.js",
    "cost.js",
    "records.js",
    "conclusions.js",
    "effects.js",
    "reference.js",
    "page.js",
    "live.js",
    "start.js",
)
# A script element ends at `</script`, and `<!--` begins a comment in it; U+2028 and U+2029 end a
# line in JavaScript though not in JSON.
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def render(document: Mapping[str, Any], live: Mapping[str, Any] | None = None) -> str:
    """The page of a sweep, of `dashboards.document.document`. `live`, for one that is served: `url`
    and `curves` have the data anew, `refresh` (seconds), `as_of` (seconds since the epoch) and, for
    data that could not be read again, `stale`: why. Raises ValueError for a number that is not
    finite."""
    data = {"page": "sweep", "document": document, "live": live}
    return _page(str(document["sweep"]["name"]), data=data)


def render_list(sweeps: Iterable[Mapping[str, Any]], live: Mapping[str, Any]) -> str:
    """The list of sweeps of the live application; see `dashboards.app.listed`."""
    return _page("Sweeps", data={"page": "sweeps", "document": list(sweeps), "live": live})


def render_notice(title: str, notice: str) -> str:
    """A page with one thing to say, and the way back to the list."""
    return _page(title, notice=notice)


def policy(live: bool) -> str:
    """The Content-Security-Policy of a page; a live one asks its own server for new data."""
    rules = {
        "default-src": "'none'",
        "script-src": _digest(_script()),
        "style-src": _digest(_style()),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    if live:
        rules["connect-src"] = "'self'"
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def island(data: Any) -> str:
    """JSON that may stand in a script element. Raises ValueError for NaN and infinity."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    # a lone surrogate becomes its escape, as it cannot be written as UTF-8
    return text.translate(_ESCAPES).encode("utf-8", "backslashreplace").decode()


def _page(title: str, data: Mapping[str, Any] | None = None, notice: str = "") -> str:
    from jinja2 import Environment
    from markupsafe import Markup

    template = Environment(autoescape=True).from_string(_read("template.html"))
    return template.render(
        title=_writable(title),
        notice=_writable(notice),
        back=bool(notice),
        policy=policy(live=bool(data and data["live"])),
        css=Markup(_style()),
        script=Markup(_script()),
        data=Markup(island(data)) if data else "",
    )


def _writable(text: str) -> str:
    """Lone surrogates cannot be written as UTF-8."""
    return text.encode("utf-8", "replace").decode()


@cache
def _script() -> str:
    return '"use strict";\n{\n' + "\n".join(_read(name) for name in _SCRIPTS) + "}\n"


@cache
def _style() -> str:
    return _read("page.css")


@cache
def _read(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
