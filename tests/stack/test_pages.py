"""One cell in three places, in a real browser, by following our own links: from the comparison to
MLflow, from MLflow to Ray's dashboard and back to the comparison."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.conftest import ARGUMENTS
from tests.cluster.conftest import Workplace
from tests.stack.stack import Stack


@pytest.fixture(scope="module")
def cell(stack: Stack) -> Iterator[Any]:
    """A cell that trains while it is looked at; its MLflow run."""
    place = Workplace(stack.project, stack.driver_environment())
    place.write({"train": {"steps": 1_000_000}})
    run = place.start("--max-concurrent", "1")

    def begun() -> Any:
        runs = place.cells(stack.url("mlflow"))
        return runs[0] if runs and "ray.url" in runs[0].data.tags else None

    yield run.until(begun, "the first cell trains")
    os.kill(run.process.pid, signal.SIGTERM)
    assert run.wait() == 130
    run.wait_for_all()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield found
        found.close()


@pytest.mark.long
def test_the_same_cell_is_found_in_all_three(stack: Stack, cell: Any, browser: Any) -> None:
    label, id = cell.data.tags["cell.label"], cell.data.tags["cell.id"]
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(120_000)
    try:
        page = context.new_page()
        page.goto(stack.url("dashboards"))
        page.get_by_role("link", name="tiny").click()
        page.locator("#arms-open-a0").click()
        row = page.locator("#cells-a0 tbody tr", has_text=id)
        with context.expect_page() as opened:
            row.get_by_role("link", name="mlflow").click()
        mlflow = opened.value
        assert mlflow.url.startswith(f"{stack.url('mlflow').replace('127.0.0.1', 'localhost')}/#/")
        assert cell.info.run_id in mlflow.url
        mlflow.get_by_text(label).first.wait_for()

        ray = _followed(context, mlflow, "Ray's dashboard")
        _let_in(ray, stack.settings["RAY_AUTH_TOKEN"])
        ray.get_by_text("Tasks History").click()
        ray.get_by_text(f"{label} rank=0").first.wait_for()

        back = _followed(context, mlflow, "Beside the other cells")
        line = back.locator("tr[id^='cells-']:focus")
        line.wait_for()
        assert f"orchestrator.why {id}" in line.inner_text()
    finally:
        context.close()


def _followed(context: Any, page: Any, name: str) -> Any:
    """A page of its own at the address that the link called `name` has."""
    address = page.get_by_role("link", name=name).first.get_attribute("href")
    found = context.new_page()
    found.goto(address)
    return found


def _let_in(page: Any, token: str) -> None:
    """Ray's dashboard asks for the token once."""
    asked = page.get_by_role("dialog")
    asked.locator("input").fill(token)
    asked.get_by_role("button", name="Submit").click()
    asked.wait_for(state="hidden")
