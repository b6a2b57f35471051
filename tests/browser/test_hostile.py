"""Names that users choose are shown as they are, everywhere, and do nothing."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dashboards.document import document
from dashboards.render import render
from tests.dashboards.hostile import NAMES
from tests.dashboards.made import study

RUN = (
    "<script>window.pwned=1</script>",
    "</script><script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "\"><svg onload='window.pwned=1'>",
    "javascript:window.pwned=1",
)


def hostile(names: tuple[str, ...]) -> dict[str, Any]:
    """A study in which everything that a user may name is called by one of `names`."""
    axis, *levels = (*names, names[0])[:4] if len(names) < 4 else names
    arms: dict[tuple[str, ...], list[Any]] = {}
    for i, level in enumerate(dict.fromkeys(levels)):
        metrics = {"mAP": 0.3 + i / 100, f"AP: {names[0]}": 0.2, names[-1]: 1.0}
        links = {names[0]: "javascript:window.pwned=1", "mlflow": f"http://x/{names[-1]}"}
        cell = {"outcome": "converged", "metrics": metrics, "links": links, "folder": names[0]}
        failed = {"outcome": "diverged", "step": 5, "reason": names[i % len(names)], "links": links}
        arms[level,] = [cell, cell | {"metrics": {**metrics, "mAP": 0.31}}, failed]
    made = study(
        arms,
        {axis: tuple(dict.fromkeys(levels))},
        (levels[0],),
        name=names[0],
        question=names[-1],
        cautions=names,
        aliases=names,
        excluded=({"if": names[0], "why": names[-1]},),
        links={"mlflow": "javascript:window.pwned=1", names[0]: "http://h.example/"},
        variant=names[0],
        arguments=names[-1],
    )
    return document(made, {c.id: {names[0]: [[0, 1.0], [5, 2.0]]} for c in made.cells})


@pytest.mark.parametrize("names", [RUN, NAMES], ids=["code", "text"])
def test_names_do_nothing_and_are_shown_as_they_are(
    open_page: Callable[..., Any], tmp_path: Path, names: tuple[str, ...]
) -> None:
    made = hostile(names)
    file = tmp_path / "report.html"
    file.write_text(render(made), encoding="utf-8")
    page = open_page(file, 390)
    for arm in made["arms"]:
        page.evaluate("id => document.getElementById(id).click()", f"arms-open-{arm['key']}")
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true })")
    page.hover("#curves svg.chart")
    for metric in made["metrics"]:
        page.select_option("#metric", metric["name"])
    for axis in made["axes"]:
        page.get_by_label(axis["name"], exact=True).first.select_option(axis["levels"][-1])
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.querySelectorAll('#main script, #main img').length") == 0
    assert page.evaluate("document.querySelectorAll(\"a[href^='javascript' i]\").length") == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    shown = flat(page.evaluate("document.body.textContent"))
    for name in names:
        assert flat(name) in shown
    assert page.evaluate("document.title") == " ".join(names[0].split())


def test_the_page_runs_no_script_but_its_own(open_page: Callable[..., Any], tmp_path: Path) -> None:
    """Were a name ever to get into the page as HTML, the browser would still not run it."""
    file = tmp_path / "report.html"
    file.write_text(render(hostile(RUN)), encoding="utf-8")
    page = open_page(file)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=pwned=1>')")
    page.evaluate(
        "document.head.append(Object.assign(document.createElement('script'), {text: 'pwned = 1'}))"
    )
    page.wait_for_timeout(200)
    assert page.evaluate("window.pwned") is None
    refused = [text for text in page.said if "Content Security Policy" in text]
    assert len(refused) == len(page.said) >= 2
    page.said.clear()


def flat(text: str) -> str:
    """Without what HTML's text content may differ in: NUL and the ends of lines."""
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
