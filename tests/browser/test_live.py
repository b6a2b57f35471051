"""The live application over a real store, in a real browser: it follows a sweep while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.ledgers import Start, empty_store, plan_of
from tests.dashboards.test_serve import broken, served

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        return empty_store(folder / "tables", folder / "project")


@pytest.fixture(scope="module")
def start(root: Path) -> Start:
    """A sweep of 12 cells, AP50 of 3 norms x 2 batches x 2 seeds, of which 2 have a result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        begun = Start(root, plan_of(root))
        begun.train(0, 0.31, AP75=0.2)
        begun.train(1, "diverged", reason="loss is NaN", step=40)
    return begun


@pytest.fixture(scope="module")
def address(root: Path, start: Start) -> Iterator[str]:
    with served(root, "--refresh", "0.5") as (found, _):
        yield found


def test_a_running_sweep_is_followed_and_what_a_reader_has_set_stays(
    open_page: Open, address: str, start: Start
) -> None:
    page = open_page(address)
    page.get_by_role("link", name="small").click()
    page.wait_for_selector("#arms")
    settled = page.locator("#head .facts dd", has_text="of 12 settled")
    settled.wait_for()
    assert "2 of 12 settled" in settled.inner_text()
    page.select_option("#level-norm", "gn")
    page.click("#arms-by-settled")
    page.fill("#find", "batch")
    page.locator("#arms-open-a0").click()
    page.focus("#find")
    page.evaluate("scrollTo(0, 300)")
    before = page.evaluate("[scrollY, document.getElementById('find').selectionStart]")
    start.train(6, 0.33)
    page.get_by_text("3 of 12 settled").wait_for()
    rows = page.locator("#arms > tbody > tr:not(.detail)")
    assert [row.get_attribute("id") for row in rows.all()] == ["arms-a0", "arms-a1"]
    assert page.locator("#arms th[data-key=settled]").get_attribute("aria-sort") == "descending"
    assert page.locator("#cells-a0 tbody tr").count() == 2
    assert page.evaluate("document.activeElement.id") == "find"
    now = page.evaluate("[scrollY, document.getElementById('find').selectionStart]")
    assert now == before


def test_another_metric_is_asked_for_when_it_is_chosen(
    open_page: Open, address: str, start: Start
) -> None:
    page = open_page(f"{address}sweep/small")
    page.select_option("#metric", "mAP")
    page.get_by_text("claims here are hints").wait_for()
    assert page.get_by_text("No differences on mAP yet").count() == 0


@pytest.fixture(scope="module")
def still(root: Path, start: Start) -> Iterator[str]:
    """An application whose pages ask for nothing by themselves after their first request."""
    with served(root, "--refresh", "3600") as (found, _):
        yield found


def test_a_metric_that_is_chosen_a_second_time_has_its_differences_again(
    open_page: Open, still: str
) -> None:
    page = open_page(f"{still}sweep/small")
    for metric in ("mAP", "AP75", "mAP", "AP50", "AP75"):
        page.select_option("#metric", metric)
        page.get_by_text(f"No differences on {metric} yet").wait_for(state="detached")
        assert page.locator("#arms-a0 td").last.inner_text().startswith("open")


def test_a_metric_that_is_chosen_while_another_is_asked_for_is_asked_for_next(
    open_page: Open, still: str
) -> None:
    page = open_page(f"{still}sweep/small")
    held: list[Any] = []
    page.route("**/small.json?metric=mAP", lambda route: held.append(route))
    with page.expect_request("**/small.json?metric=mAP"):
        page.select_option("#metric", "mAP")
    page.select_option("#metric", "AP75")
    (asked,) = held
    asked.continue_()
    page.get_by_text("No differences on AP75 yet").wait_for(state="detached")


@pytest.mark.parametrize(
    ("focused", "settles"),
    [
        ("document.querySelector('#banner a')", 2),
        ("document.querySelector('#arms').parentElement", 3),
        ("document.querySelectorAll('#head nav a')[1]", 4),
        ("document.querySelector('#failed tbody a')", 5),
        ("document.querySelector('#all-metrics summary')", 7),
    ],
    ids=["banner", "scrolled region", "section", "row", "details"],
)
def test_the_place_of_the_keyboard_stays_when_new_data_are_drawn(
    open_page: Open, address: str, start: Start, focused: str, settles: int
) -> None:
    page = open_page(f"{address}sweep/small")
    page.wait_for_selector("#failed")
    page.evaluate(f"{focused}.focus()")
    assert page.evaluate(f"document.activeElement === {focused}")
    # what is drawn anew has no such mark
    page.evaluate("document.getElementById('arms').dataset.old = 'yes'")
    start.train(settles, 0.3)
    page.wait_for_selector("#arms:not([data-old])")
    assert page.evaluate(f"document.activeElement === {focused}")
    with page.expect_response("**/curves.json"):  # the refresh has ended with its banner
        pass
    assert page.evaluate(f"document.activeElement === {focused}")


def test_only_what_is_wrong_is_read_out(open_page: Open, address: str, root: Path) -> None:
    """A region that is told again at every refresh would talk over its reader."""
    page = open_page(f"{address}sweep/small")
    page.evaluate(
        """() => {
          window.told = [];
          for (const region of document.querySelectorAll("[role=status], [aria-live]"))
            new MutationObserver(() => told.push(region.textContent)).observe(
              region, { childList: true, characterData: true, subtree: true });
        }"""
    )
    for _ in range(3):
        with page.expect_response("**/small.json"):
            pass
    assert page.evaluate("told") == []
    page.route("**/small.json", lambda route: route.abort())
    page.locator("#banner.stale").wait_for()
    for _ in range(2):
        with page.expect_event("requestfailed"):
            pass
    reason = " · not up to date: this page's server does not answer"
    assert page.evaluate("told") == [reason]
    page.unroute("**/small.json")
    page.locator("#banner:not(.stale)").wait_for()
    assert page.evaluate("told") == [reason, ""]
    assert all("ERR_FAILED" in text for text in page.said)
    page.said.clear()


def test_data_that_cannot_be_drawn_are_no_server_that_does_not_answer(
    open_page: Open, address: str
) -> None:
    page = open_page(f"{address}sweep/small")
    page.route("**/small.json", lambda route: route.fulfill(json={}))
    page.locator("#banner.stale").wait_for()
    told = page.inner_text("#banner")
    assert "cannot be drawn" in told
    assert "does not answer" not in told
    page.unroute("**/small.json")
    page.locator("#banner:not(.stale)").wait_for()


def test_a_store_that_does_not_answer_leaves_the_data_on_the_screen(
    open_page: Open, address: str, root: Path, start: Start
) -> None:
    page = open_page(f"{address}sweep/small")
    rows = page.locator("#arms > tbody > tr").count()
    assert rows == 6
    with broken(root):
        page.locator("#banner.stale").wait_for()
        told = page.inner_text("#banner")
        assert "as of 20" in told
        assert "not up to date: " in told
        assert page.locator("#arms > tbody > tr").count() == rows
        # another visitor gets the same data, and is told as well
        second = open_page(f"{address}sweep/small")
        assert second.locator("#arms > tbody > tr").count() == rows
        assert "not up to date" in second.inner_text("#banner")
    page.locator("#banner:not(.stale)").wait_for()
    refused = [text for text in page.said if "503" in text]
    assert refused == page.said  # Chromium itself tells of answers with an error
    page.said.clear()


def test_a_page_that_is_not_there_says_so(open_page: Open, address: str, browser: Any) -> None:
    page = browser.new_page()
    answer = page.goto(f"{address}sweep/<script>alert(1)</script>")
    assert answer.status == 404
    assert "no sweep '<script>alert(1)</script>' is on record" in page.inner_text("main")
    page.get_by_role("link", name="All sweeps").click()
    page.wait_for_selector("#sweeps")
    page.close()


def test_an_address_with_a_cell_opens_its_row(open_page: Open, address: str, start: Start) -> None:
    """As MLflow's note of the cell has it."""
    cell = start.plan.cells[1]
    page = open_page(f"{address}sweep/small#cell-{cell.id}")
    line = page.locator("tr[id^='cells-']:focus")
    line.wait_for()
    assert f"orchestrator.why {cell.id}" in line.inner_text()
