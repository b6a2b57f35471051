"""The seed report's table from the shipped data, cell for cell, and its ten conclusions.

seed_report_table.md holds the original's tables as they are printed; where the original itself is
at hand it is compared too.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dashboards.metrics import COCO
from dashboards.reference import seed_report
from dashboards.reference.claims import Assessment, assess, seed_claims, support
from dashboards.reference.rows import Report, shipped
from dashboards.seed_report import main

ROOT = Path(__file__).parents[2]
PRINTED = Path(__file__).with_name("seed_report_table.md")
ORIGINAL = ROOT.parent / "shared/reference/seed_report.md"
MARK = re.compile(r"\[\^(\d+)\]")


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def rows_of(markdown: str) -> list[list[str]]:
    """The cells of all lines of tables, without those under the headings."""
    lines = [line.strip() for line in markdown.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "---"]


def part(markdown: str, title: str) -> str:
    return re.split(r"^#+ *", markdown.split(title, 1)[1], maxsplit=1, flags=re.M)[0]


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize(
    "source",
    [
        PRINTED,
        pytest.param(
            ORIGINAL,
            marks=pytest.mark.skipif(not ORIGINAL.is_file(), reason="the original is not here"),
        ),
    ],
    ids=["transcribed", "original"],
)
def test_the_tables_equal_the_original_cell_for_cell(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = printed(capsys, "--format", "md")
    for title, lines in (("bbox", 26), ("CenterNet", 3)):
        theirs = rows_of(part(source.read_text("utf-8"), f"{title}\n"))
        assert len(theirs) == lines
        assert all(len(row) == 13 for row in theirs)
        assert rows_of(MARK.sub("", part(ours, f"### {title}\n"))) == theirs


def test_the_sections_differ_from_the_table_in_one_cell_which_is_footnoted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sections = {row[0]: row[1:] for row in rows_of(part(PRINTED.read_text("utf-8"), "## sections"))}
    report, differ = seed_report(), []
    for id_, row in report:
        section = sections.get(row.section or id_)
        if section is None:
            assert not row.section
        elif section[0] == "Unconvergence":
            assert not row.row.converged
            assert not row.row.metrics
        else:
            ours = [row.cell(metric) for metric in COCO]
            differ += [
                (id_, m, a, b) for m, a, b in zip(COCO, ours, section, strict=True) if a != b
            ]
    assert differ == [("B04", "AR_large", "0.630", "0.634")]
    # every section is a row, or the section of one
    assert {row.section or id_ for id_, row in report} >= sections.keys() - {"section"}

    markdown = printed(capsys, "--format", "md")
    (line,) = [line for line in markdown.splitlines() if line.startswith("|1)|")]
    cell = line.strip("|").split("|")[-1]
    assert cell.startswith("0.630[^")
    number = MARK.findall(line)
    assert len(number) == 1
    assert f"\n[^{number[0]}]: B04: AR_large is 0.634 in its section D08\n" in markdown
    text = printed(capsys)
    assert f"0.630 [{number[0]}]" in text
    assert f"\n[{number[0]}] B04: AR_large is 0.634 in its section D08\n" in text


def test_every_format_has_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    report = seed_report()
    assert len(report.rows) == 25 + 2 + 12 + 1
    text = printed(capsys)
    told = [line.split()[0] for line in text.splitlines() if re.match(r" +[BCDE]\d", line)]
    assert told == list(report.rows)
    assert len(re.findall("Unconvergence", text)) == 3

    table = list(csv.DictReader(io.StringIO(printed(capsys, "--format", "csv"))))
    assert [row["id"] for row in table] == list(report.rows)
    b01 = {metric: table[0][metric] for metric in COCO}
    assert b01 == dict(zip(COCO, rows_of(PRINTED.read_text("utf-8"))[1][1:], strict=True))
    d02 = next(row for row in table if row["id"] == "D02")
    assert (d02["converged"], d02["mAP"]) == ("false", "")

    data = json.loads(printed(capsys, "--format", "json"))
    assert {row["id"]: row["metrics"] for row in data["rows"]} == {
        id_: row.row.metrics for id_, row in report
    }


def test_the_data_come_with_an_installed_wheel(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "dashboards", tree / "dashboards", ignore=ignore)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('out'))"
    (tree / "out").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=tree, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    site = tmp_path / "site"
    with zipfile.ZipFile(next((tree / "out").glob("*.whl"))) as wheel:
        wheel.extractall(site)
    show = (
        "import dashboards; print(dashboards.__file__); from dashboards.seed_report import main; "
    )
    code = f"import sys; sys.path.insert(0, {str(site)!r}); {show}"
    for call in ("main([])", "main(['--conclusions'])"):
        out = subprocess.run(
            [sys.executable, "-c", code + call],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert out.startswith(str(site))  # not the checkout's
        assert "B13" in out


# ---------------------------------------------------------------- its conclusions

# By hand, from the pairs of rows that the report's conclusions rest on: None where one of the two
# did not converge.
DELTAS: dict[str, list[tuple[str, str, str, float | None]]] = {
    "K01": [
        ("B01", "B03", "mAP", 0.005),
        ("B02", "B03", "mAP", 0.004),
        ("D02", "D06", "mAP", None),
    ],
    "K02": [("D02", "D06", "mAP", None), ("D03", "D07", "mAP", None), ("D06", "D26", "mAP", 0.039)],
    "K03": [
        ("B03", "B04", "mAP", 0.041),
        ("B03", "B04", "AP75", 0.059),
        ("B03", "B04", "AP50", 0.001),
    ],
    "K04": [("B04", "B05", "mAP", 0.004), ("B08", "B23", "mAP", 0.002)],
    "K05": [("B04", "B06", "mAP", 0.014)],
    "K06": [("B06", "B09", "mAP", 0.002)],
    "K07": [
        ("B06", "B23", "mAP", 0.006),
        ("B06", "B08", "mAP", 0.004),
        ("B08", "B23", "mAP", 0.002),
    ],
    "K08": [("B09", "B13", "mAP", 0.006), ("B09", "B14", "mAP", 0.007)],
    "K09": [("B09", "B10", "mAP", -0.009)],
    "K10": [
        ("B09", "B11", "mAP", -0.036),
        ("B09", "B11", "AP_small", -0.031),
        ("B09", "B11", "AP_medium", -0.064),
    ],
}
SUPPORT = {
    "K01": "points that way",
    "K02": "half of it points that way",  # at 4x1, and not at 2x2
    "K03": "points that way",
    "K04": "points that way in part",  # +0.004, and +0.002, which two equal runs could print
    "K05": "points that way",
    "K06": "of the size of rerun noise",
    "K07": "points that way",
    "K08": "points that way",
    "K09": "points that way",
    "K10": "points that way",
}


def test_the_ten_conclusions_come_out_with_their_deltas() -> None:
    claims = {claim.id: claim for claim in seed_claims()}
    assert list(claims) == list(DELTAS)
    for id_, wanted in DELTAS.items():
        shown = (*claims[id_].pairs, *claims[id_].besides)
        assert sorted((p.before, p.after, p.metric, p.delta or 0) for p in shown) == sorted(
            (before, after, metric, delta or 0) for before, after, metric, delta in wanted
        )
    assert {id_: claim.support for id_, claim in claims.items()} == SUPPORT
    for claim in claims.values():
        assert f"{'one pair' if len(claim.pairs) == 1 else '2 pairs'} of single runs" in claim.text
        deltas = [p.delta for p in (*claim.pairs, *claim.besides) if p.delta is not None]
        assert all(f"{delta:+.3f}" in claim.text for delta in deltas)
        # single runs support nothing, and each says of what size chance is known to be
        assert "upported" not in claim.text
        assert (
            "(B13 and B14) are 0.001 apart, and so may be two that print 0.002: one" in claim.text
        )


def test_what_the_conclusions_say() -> None:
    claims = {claim.id: claim.text for claim in seed_claims()}
    k02 = claims["K02"]
    assert "Half of it points that way, 2 pairs of single runs" in k02
    assert "D02 did not converge, D06 reached 0.149" in k02
    assert "neither D03 nor D07 converged [at 2x2" in k02
    assert "D06 to D26 +0.039 (0.149 to 0.188) [spectral norm against EvoNormS at 4x1" in k02
    assert "(B13 and B14) are 0.001 apart, and so may be two that print 0.002" in claims["K06"]
    assert "[neck_norm and head_norm change together]" in claims["K01"]
    assert "change together" not in claims["K03"]


def test_they_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    texts = [claim.text for claim in seed_claims()]
    for form in ("text", "md"):
        out = printed(capsys, "--conclusions", "--format", form)
        assert all(text in out for text in texts)
        assert "Every number is one run: nothing is established" in out
    data = json.loads(printed(capsys, "--conclusions", "--format", "json"))
    assert {claim["certainty"] for claim in data} == {"single run"}
    table = list(csv.DictReader(io.StringIO(printed(capsys, "--conclusions", "--format", "csv"))))
    pairs = sum(map(len, DELTAS.values()))
    assert len(table) == pairs
    assert next(row["tells"] for row in table if row["before"] == "D03") == "neither converged"


# ---------------------------------------------------------------- the rules, on changed numbers


def judged(id_: str, **values: float | None) -> Assessment:
    """A conclusion of the report, had its rows these numbers of mAP; None: did not converge."""
    data, report = shipped("seed_claims.yaml"), seed_report()
    rows = dict(report.rows)
    for row_id, value in values.items():
        row = rows[row_id]
        metrics = {} if value is None else {**row.row.metrics, "mAP": value}
        changed = replace(row.row, metrics=metrics, converged=value is not None)
        rows[row_id] = replace(row, row=changed)
    changed_report = Report(report.source, report.heading, report.protocol, rows)
    return assess(id_, data["claims"][id_], changed_report, data["rerun"])


def test_support_follows_the_numbers() -> None:
    assert (
        judged("K02", D07=0.1).support == "points that way"
    )  # had EvoNormS converged at 2x2 as well
    assert judged("K02", D02=0.2).support == "points the other way"  # 0.2 to 0.149; at 2x2 neither
    assert (
        judged("K02", D06=None).support == "nothing points that way"
    )  # nowhere did anything converge
    assert judged("K05", B06=0.305).support == "points the other way"  # 0.319 to 0.305
    assert judged("K05", B06=0.320).support == "of the size of rerun noise"
    assert judged("K05", B04=None).support == "points that way"  # it converges only with cosine
    assert judged("K09", B10=0.344).support == "points the other way"  # said to lower it
    assert judged("K09", B10=None).support == "points that way"
    assert judged("K04", B23=0.333).support == "half of it points that way"  # +0.004, and -0.004
    # noise is what the report's own two equal runs say: 0.331 and 0.342 are 0.011 apart, so +0.006
    # of WAA and Stitch (B06 to B23) says nothing and +0.014 (K05) still does
    assert judged("K07", B13=0.331).support == "of the size of rerun noise"
    assert judged("K05", B13=0.331).support == "points that way"
    assert judged("K05", B13=0.329).support == "of the size of rerun noise"  # 0.013 and 0.001


def test_what_pairs_come_to() -> None:
    assert support(["for", "for"]) == "points that way"
    assert support(["for", "as rerun noise"]) == "points that way in part"
    assert support(["for", "neither converged"]) == "half of it points that way"
    assert support(["for", "against"]) == "half of it points that way"
    assert support(["for", "as rerun noise", "against"]) == "half of it points that way"
    assert support(["against", "neither converged"]) == "points the other way"
    assert support(["as rerun noise"]) == "of the size of rerun noise"
    assert support(["as rerun noise", "neither converged"]) == "nothing points that way"
    assert support(["neither converged"]) == "nothing points that way"
