"""The page as a file, as a sweep keeps it: what a reader does with it, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dashboards.render import render
from dashboards.study import Study
from tests.browser.audits import FOCUS, PALE, UNNAMED
from tests.browser.studies import BATCHES, NORMS, norms_and_batches, whole
from tests.dashboards.made import study

Open = Callable[..., Any]
ROWS = "#arms > tbody > tr:not(.detail)"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return whole(norms_and_batches())


@pytest.fixture(scope="module")
def file(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(document), encoding="utf-8")
    return path


def keys(page: Any) -> list[str]:
    """The arms that are shown, in their order."""
    return [
        id.removeprefix("arms-") for id in page.eval_on_selector_all(ROWS, "r => r.map(x => x.id)")
    ]


def arms(document: dict[str, Any], *wanted: str) -> list[str]:
    """Keys of the arms whose levels have all of `wanted`."""
    return [a["key"] for a in document["arms"] if set(wanted) <= set(a["levels"].values())]


def open_all(page: Any) -> None:
    """Rows and what else is folded."""
    for key in ("#arms-open-a0", "#arms-open-a5", "#effect-open-0"):
        page.click(key)
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true })")


# ---------------------------------------------------------------- the table


def test_columns_sort_as_numbers_and_as_levels_with_unknowns_last(
    open_page: Open, file: Path, document: dict[str, Any]
) -> None:
    page = open_page(file)
    plan = [arm["key"] for arm in document["arms"]]
    assert keys(page) == plan
    means = {a["key"]: a["values"]["mAP"]["mean"] for a in document["arms"]}
    known = sorted((k for k in plan if means[k] is not None), key=lambda k: -means[k])
    unknown = [k for k in plan if means[k] is None]
    assert unknown  # an arm that never converged
    heading = page.locator("#arms th[data-key=mean]")
    for order, expected in (
        ("descending", known + unknown),
        ("ascending", known[::-1] + unknown),
        ("none", plan),
    ):
        page.click("#arms-by-mean")
        assert heading.get_attribute("aria-sort") == order
        assert keys(page) == expected
    page.click("#arms-by-axis-batch")  # 1, 2, 4, 16: neither the alphabet nor the plan
    of_arm = {a["key"]: a["levels"]["batch"] for a in document["arms"]}
    assert [of_arm[k] for k in keys(page)] == [b for b in BATCHES for _ in NORMS]


def test_axes_may_be_called_like_the_columns_of_the_table(open_page: Open, tmp_path: Path) -> None:
    """`mean` has the levels 10 and 2 in this order; the values are in the other one."""
    arms_ = {("10", "x"): [0.1], ("2", "x"): [0.3], ("10", "y"): [0.2], ("2", "y"): [0.4]}
    axes = {"mean": ("10", "2"), "forest": ("x", "y")}
    path = tmp_path / "report.html"
    path.write_text(render(whole(study(arms_, axes, ("10", "x")))), encoding="utf-8")
    page = open_page(path)
    assert page.evaluate(UNNAMED) == []  # no id is there twice
    page.click("#arms-by-axis-mean")
    assert keys(page) == ["a0", "a2", "a1", "a3"]
    sorted_by = page.eval_on_selector_all(
        "#arms th[aria-sort=ascending]", "h => h.map(x => x.innerText.trim())"
    )
    assert [text.removesuffix("▲") for text in sorted_by] == ["mean"]
    page.click("#arms-by-mean")
    assert keys(page) == ["a3", "a1", "a2", "a0"]


def test_filters_by_text_and_by_level_and_clears_them(
    open_page: Open, file: Path, document: dict[str, Any]
) -> None:
    page = open_page(file)
    page.select_option("#level-norm", "gn")
    assert keys(page) == arms(document, "gn")
    page.fill("#find", "OOM")
    assert keys(page) == arms(document, "gn", "4")
    assert page.inner_text("#shown") == "1 of 16 arms shown."
    page.fill("#find", "no such word")
    assert keys(page) == []
    assert page.get_by_text("No arm passes the filters.").is_visible()
    page.click("#clear")
    assert keys(page) == [arm["key"] for arm in document["arms"]]
    assert page.input_value("#find") == ""
    assert page.input_value("#level-norm") == ""


def test_another_metric_has_its_own_numbers_and_says_that_its_claims_are_hints(
    open_page: Open, file: Path, document: dict[str, Any]
) -> None:
    page = open_page(file)
    hint = page.get_by_text("claims here are hints")
    assert hint.count() == 0
    page.select_option("#metric", "AP50")
    assert hint.is_visible()
    for arm in document["arms"]:
        told = document["comparisons"]["AP50"]["arms"][arm["key"]]
        row = page.locator(f"#arms-{arm['key']}").inner_text()
        if told["mean"] is not None:
            assert f"{told['mean']:.4f}" in row
        if told["low"] is not None:
            assert f"[{told['low']:+.4f}, {told['high']:+.4f}]" in row
        assert told["words"] in row
    page.select_option("#metric", "AR_large")  # -1 in every cell: there is nothing to be found
    assert "-1" not in page.inner_text("#arms > tbody")


def test_a_row_opens_to_its_cells(open_page: Open, file: Path, document: dict[str, Any]) -> None:
    page = open_page(file)
    (key,) = arms(document, "bn", "2")
    page.click(f"#arms-open-{key}")
    inside = page.locator(f"#cells-{key} tbody tr")
    cells = [c for c in document["cells"] if c["arm"] == key]
    assert inside.count() == len(cells) == 3
    for i, cell in enumerate(cells):
        text = inside.nth(i).inner_text()
        assert cell["outcome"] in text
        assert cell["reason"] in text
        assert f"python -m orchestrator.why {cell['id']}" in text
    link = inside.nth(0).locator("a")
    assert link.get_attribute("href") == cells[0]["links"]["mlflow"]
    assert link.get_attribute("target") == "_blank"
    page.click(f"#arms-open-{key}")
    assert inside.count() == 0


def test_differences_lie_where_the_common_axis_says(
    open_page: Open, file: Path, document: dict[str, Any]
) -> None:
    """A pixel is the same difference in every row: (x - x of zero) / difference is one number."""
    page = open_page(file)
    told = document["comparisons"]["mAP"]["arms"]
    scales = []
    for key in keys(page):
        drawn = page.locator(f"#arms-{key} svg.forest")
        if not drawn.count() or not told[key]["difference"]:
            continue
        zero = float(drawn.locator(".zero").get_attribute("x1"))
        found = {"difference": drawn.locator(".point").get_attribute("cx")}
        if told[key]["low"] is not None:
            bar = drawn.locator(".span").first
            found |= {"low": bar.get_attribute("x1"), "high": bar.get_attribute("x2")}
        scales += [(float(x) - zero) / told[key][name] for name, x in found.items()]
    assert len(scales) > 30
    assert scales == pytest.approx([scales[0]] * len(scales), rel=1e-6)


def test_what_is_told_over_images_is_labelled_and_is_no_interval(
    open_page: Open, tmp_path: Path
) -> None:
    made = whole(study({("x",): [0.30], ("y",): [0.32]}, {"n": ("x", "y")}, ("x",)))
    told = {"arm": "a1", "seed": 0, "images": 200, "draws": 1000, "difference": 0.02, "level": 0.05}
    told |= {"low": -0.004, "high": 0.041, "covers": "covers which images were drawn", "why": ""}
    path = tmp_path / "report.html"
    path.write_text(render({**made, "images": [told]}), encoding="utf-8")
    page = open_page(path)
    row = page.locator("#arms-a1")
    assert "over images [-0.0040, +0.0410]" in row.inner_text()
    assert "nothing can be claimed" in row.inner_text()
    assert row.locator("svg line.over").count() == 1
    assert row.locator("svg line.span").count() == 0
    assert page.get_by_text("It covers which images were drawn, and is no verdict.").is_visible()


# ---------------------------------------------------------------- maps and curves


def test_the_map_counts_all_planned_seeds_and_marks_failures_in_words_and_hatching(
    open_page: Open, file: Path
) -> None:
    page = open_page(file)
    tile = "#map tbody tr:nth-child({}) td:nth-child({}) .tile"
    failed, some, whole_, waits = (
        page.locator(tile.format(row, column)) for row, column in ((1, 2), (1, 3), (1, 4), (4, 5))
    )
    assert failed.inner_text().split("\n") == ["0 of 3", "3 diverged"]
    assert some.inner_text().split("\n") == ["2 of 3", "1 stalled"]
    assert whole_.inner_text() == "3 of 3"
    assert waits.inner_text().split("\n") == ["1 of 3", "1 running, 1 waiting"]
    hatched = [
        t.evaluate("e => getComputedStyle(e).backgroundImage.includes('gradient')")
        for t in (failed, some, whole_, waits)
    ]
    assert hatched == [True, True, False, False]
    assert waits.evaluate("e => getComputedStyle(e).borderStyle") == "dashed"


def test_curves_are_toggled_by_arm_and_by_seed(
    open_page: Open, file: Path, document: dict[str, Any]
) -> None:
    page = open_page(file)
    lines = page.locator("#curves path.curve[data-arm]")
    begun = [c for c in document["cells"] if c["outcome"] != "waiting"]
    assert lines.count() == len(begun)
    (key,) = arms(document, "gn", "16")
    page.uncheck(f"#arm-{key}")
    assert lines.count() == len(begun) - 3
    assert page.locator(f"#curves path[data-arm={key}]").count() == 0
    page.uncheck("#seed-0")
    assert lines.count() == len([c for c in begun if c["seed"] and c["arm"] != key])
    page.click("#arm-none")
    assert lines.count() == 0
    page.click("#arm-all")
    page.click("#seed-all")
    assert lines.count() == len(begun)
    page.select_option("#level-norm", "evonorm_s0")  # the table's filter is the curves' too
    assert lines.count() == 4 * 3


def test_a_failed_run_is_marked_at_the_step_where_it_died(open_page: Open, file: Path) -> None:
    page = open_page(file)
    ticks = page.eval_on_selector_all(
        "#curves text[text-anchor=middle]",
        "t => t.map(x => [+x.textContent, +x.getAttribute('x')])",
    )
    (step0, x0), (step1, x1) = ticks[0], ticks[-1]
    crosses = page.eval_on_selector_all(
        "#curves path.death",
        "p => p.map(x => [x.textContent, x.getBBox().x + x.getBBox().width / 2])",
    )
    found = {}
    for title, x in crosses:
        name, at = title.split(" at step ")
        assert x == pytest.approx(x0 + (int(at) - step0) * (x1 - x0) / (step1 - step0), abs=0.5)
        found[name] = int(at)
    assert found == {
        "norm=bn batch=1 seed=0: diverged": 500,
        "norm=bn batch=1 seed=1: diverged": 1000,
        "norm=bn batch=1 seed=2: diverged": 1500,
        "norm=bn batch=2 seed=1: stalled": 2000,
        "norm=gn batch=4 seed=2: oom": 12,
    }
    assert page.get_by_text("diverged 500", exact=True).is_visible()


def test_hovering_over_a_line_names_it(open_page: Open, file: Path) -> None:
    page = open_page(file)
    page.select_option("#level-norm", "bn")
    page.select_option("#level-batch", "16")
    for seed in (1, 2):
        page.uncheck(f"#seed-{seed}")
    chart = page.locator("#curves svg.chart")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    d = page.locator("#curves path.curve[data-arm]").get_attribute("d")
    x, y = map(float, d.split("L")[7].split())  # the eighth of the points 50, 100, ...
    page.mouse.move(box["x"] + x + 2, box["y"] + y + 2)
    tip = page.locator("#tip")
    # 4 exp(-400 / 600) + 0.3 = 2.3537
    assert tip.inner_text() == "norm=bn batch=16 seed=0: 2.3537 at step 400"
    page.mouse.move(5, 5)
    assert tip.is_hidden()


# ---------------------------------------------------------------- findings


def test_an_axis_opens_to_the_pairs_behind_its_words(
    open_page: Open, file: Path, document: dict[str, Any]
) -> None:
    page = open_page(file)
    rows = page.locator("#effect > tbody > tr")
    assert rows.count() == len(document["effects"]) == 6  # 3 norms and 3 batches
    for i, effect in enumerate(document["effects"]):
        assert effect["words"] in rows.nth(i).inner_text()
    effect = document["effects"][0]
    page.click("#effect-open-0")
    pairs = page.locator("#pairs-0 tbody tr")
    assert pairs.count() == len(effect["rows"]) == 4  # gn against bn at each of 4 batches
    for i, pair in enumerate(effect["rows"]):
        text = pairs.nth(i).inner_text()
        assert pair["standing"] in text
        assert f"batch={pair['context']['batch']}" in text
        if pair["difference"] is not None:
            assert f"{pair['difference']:+.4f}" in text


def test_the_front_is_of_the_arms_that_no_other_beats_in_accuracy_and_cost(
    open_page: Open, file: Path, document: dict[str, Any]
) -> None:
    means = {}
    for arm in document["arms"]:
        cells = [c for c in document["cells"] if c["arm"] == arm["key"] and c["metrics"]]
        if cells:
            named = [sum(c["metrics"][m] for c in cells) / len(cells) for m in ("mAP", "gpu_hours")]
            means[arm["key"]] = named
    front = {
        k
        for k, (value, cost) in means.items()
        if not any(v >= value and c <= cost and (v, c) != (value, cost) for v, c in means.values())
    }
    page = open_page(file)
    page.click("#cost-table summary")
    page.click("#costs-by-front")
    told = page.locator("#costs tbody tr")
    assert told.count() == len(means) == 15  # one arm never converged
    on = [row for row in told.all() if "yes" in row.inner_text()]
    assert {row.get_attribute("id").removeprefix("costs-") for row in on} == front
    assert page.locator("#cost circle.on-front").count() == len(front)
    assert page.get_by_text("Not drawn: 1 arm without a converged seed").is_visible()


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (Study("bare", (), ()), ["No arm is planned yet.", "0 of 0 settled", "not compared"]),
        (
            study({("x",): [None], ("y",): [None]}, {"n": ("x", "y")}, ("x",)),
            ["2 waiting", "0 of 1", "Nothing tells the noise"],
        ),
        (
            study({("x",): [0.1, 0.2], ("y",): [0.2, "crashed"]}, {"n": ("x", "y")}),
            ["No baseline: arms are listed, not compared.", "1 crashed"],
        ),
        (
            study({("x",): [0.1], ("y",): [0.2]}, {"n": ("x", "y")}, ("x",)),
            ["open (with one seed nothing can be claimed)"],
        ),
    ],
    ids=["no arms", "no results", "no baseline", "one seed"],
)
def test_what_is_not_there_is_said(
    open_page: Open, tmp_path: Path, made: Study, told: list[str]
) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(whole(made)), encoding="utf-8")
    text = open_page(path).inner_text("main")
    assert [words for words in told if words not in text] == []
    assert "NaN" not in text
    assert "undefined" not in text


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        ("UTC", "2023-11-14 22:13 UTC"),
        ("Asia/Kolkata", "2023-11-15 03:43 +05:30"),
        ("America/St_Johns", "2023-11-14 18:43 -03:30"),
        ("Pacific/Auckland", "2023-11-15 11:13 +13:00"),  # in its summer
    ],
)
def test_a_time_names_its_zone(open_page: Open, tmp_path: Path, zone: str, told: str) -> None:
    """1.7e9 seconds after 1970-01-01 are 2023-11-14T22:13:20Z."""
    made = norms_and_batches(began=1.7e9)
    path = tmp_path / "report.html"
    path.write_text(render(whole(made)), encoding="utf-8")
    page = open_page(path, timezone_id=zone)
    shown = page.locator("#head time")
    assert shown.inner_text() == told
    assert shown.get_attribute("datetime") == "2023-11-14T22:13:20.000Z"


def test_only_places_of_the_page_and_of_its_server_and_web_addresses_are_links(
    open_page: Open, tmp_path: Path
) -> None:
    away = ["//away.example/1", "/\\away.example/2", "/\t/away.example/3", "/\n\\away.example/4"]
    here = ["/sweep/other", "#table", "/", "https://away.example/5", "http://away.example/6"]
    made = norms_and_batches(links={f"l{i}": address for i, address in enumerate(away + here)})
    path = tmp_path / "report.html"
    path.write_text(render(whole(made)), encoding="utf-8")
    page = open_page(path)
    found = page.eval_on_selector_all(
        "#head .facts a", "a => a.map((x) => [x.getAttribute('href'), x.hostname, x.target])"
    )
    assert [href for href, _, _ in found] == here
    assert [(host, target) for _, host, target in found] == [
        *[("", "")] * 3,
        *[("away.example", "_blank")] * 2,
    ]
    for i in range(len(away)):
        assert page.get_by_text(f"l{i}", exact=True).is_visible()


# ---------------------------------------------------------------- everybody can read it


def test_everything_is_reached_and_worked_with_the_keyboard(
    open_page: Open, file: Path, document: dict[str, Any]
) -> None:
    page = open_page(file)
    plan = keys(page)
    reached: dict[str, str] = {}
    while f"arm-{plan[-1]}" not in reached and len(reached) < 200:
        page.keyboard.press("Tab")
        id, ring = page.evaluate(FOCUS)
        reached[id or f"nameless {len(reached)}"] = ring
    wanted = {"metric", "find", "level-norm", "clear", "arms-by-verdict", f"arms-open-{plan[-1]}"}
    wanted |= {"curve", "smooth", "seed-0", "arm-all", f"arm-{plan[-1]}"}
    assert wanted <= set(reached)
    assert all(reached[id] != "none" for id in wanted)
    page.focus("#arms-by-mean")
    page.keyboard.press("Enter")
    assert keys(page) != plan
    assert page.evaluate("document.activeElement.id") == "arms-by-mean"
    page.focus(f"#arms-open-{plan[0]}")
    page.keyboard.press("Space")
    assert page.locator(f"#cells-{plan[0]}").is_visible()
    assert page.locator(f"#arms-open-{plan[0]}").get_attribute("aria-expanded") == "true"
    assert page.evaluate("document.activeElement.id") == f"arms-open-{plan[0]}"


def test_a_conclusion_leads_to_its_row_whatever_the_filters_are(
    open_page: Open, file: Path
) -> None:
    page = open_page(file)
    page.fill("#find", "no such word")
    link = page.locator("#conclusions a[href^='#arms-']").first
    id = link.get_attribute("href").removeprefix("#")
    link.focus()
    page.keyboard.press("Enter")
    assert page.locator(f"#{id}").is_visible()
    assert page.evaluate("document.activeElement.id") == id


def test_every_control_chart_and_table_has_a_name_and_no_id_is_there_twice(
    open_page: Open, file: Path
) -> None:
    page = open_page(file)
    open_all(page)
    assert page.evaluate(UNNAMED) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window_and_its_text_stands_out(
    open_page: Open, file: Path, width: int, scheme: str
) -> None:
    page = open_page(file, width, scheme)
    open_all(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(PALE) == []
    assert page.locator("#arms svg.forest").last.bounding_box()["x"] + 260 <= width


def test_paper_has_all_rows_and_no_controls(
    open_page: Open, file: Path, document: dict[str, Any]
) -> None:
    page = open_page(file)
    page.select_option("#level-norm", "gn")
    assert len(keys(page)) == 4
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert len(keys(page)) == 16
    assert page.locator("#means").is_visible()
    for control in ("#metric", "#find", "#arms-open-a0", "nav"):
        assert page.locator(control).is_hidden()
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert len(keys(page)) == 4
    assert page.locator("#means").is_hidden()
