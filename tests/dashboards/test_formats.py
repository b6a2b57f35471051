"""What is pasted elsewhere holds, whatever names the user has given: Markdown against a parser of
it, LaTeX against its specials and, where there is one, an engine, CSV against a reader."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from markdown_it import MarkdownIt
from markdown_it.token import Token

from dashboards import latex, markdown
from dashboards.csv_table import arms_csv, cells_csv, defused
from dashboards.document import document
from dashboards.latex import to_latex
from dashboards.markdown import to_markdown
from dashboards.plain import plain
from dashboards.report import to_json
from dashboards.study import Study
from dashboards.tables import ablation_table
from tests.dashboards.hostile import NAMES, names
from tests.dashboards.made import study
from tests.dashboards.test_tables import beside

quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def hostile(name: str) -> Study:
    """Everything that a user words is `name`."""
    cell = {"outcome": "diverged", "reason": name, "step": 1, "label": name}
    fine = {"outcome": "converged", "metrics": {"mAP": 0.3, f"AP: {name}": 0.2}}
    return study(
        {("bn", name): [fine, {**fine, "metrics": {"mAP": 0.31}}], (name, "-"): [cell, cell]},
        {f"{name}1": ["bn", name], f"{name}2": [name, "-"]},
        ("bn", name),
        name=name,
        question=name,
        excluded=({"label": name, "axes": {}, "blocks": [name], "why": name},),
        aliases=(
            {"block": name, "resolution": "III", "aliases": [{"effect": name, "with": [name]}]},
        ),
        cautions=(name,),
        tags={"sweep.sha256": name},
    )


# ---------------------------------------------------------------- Markdown


def cells_of(tokens: list[Token]) -> list[list[str]]:
    """The text of each row of the one table."""
    rows: list[list[str]] = []
    for before, token in pairwise(tokens):
        if before.type == "tr_open":
            rows.append([])
        if before.type in ("td_open", "th_open"):
            assert token.type == "inline"
            children = token.children or []
            kinds = {child.type for child in children}
            assert kinds <= {"text", "text_special", "strong_open", "strong_close"}, kinds
            rows[-1].append("".join(child.content for child in children))
    return rows


@quick
@given(names)
def test_markdown_shows_names_as_they_are_in_a_table_that_holds(name: str) -> None:
    table = ablation_table(document(hostile(name)))
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(to_markdown(table))
    assert [token.type for token in tokens if token.level == 0 and token.nesting > -1] == [
        "paragraph_open",
        "table_open",
        "bullet_list_open",
    ]
    assert not [t for t in tokens if t.type in ("html_block", "html_inline", "fence", "hr")]
    rows = cells_of(tokens)
    assert rows[0] == [column.title.strip() for column in table.columns]
    assert rows[1:] == [[f"{e.text} {e.mark}".strip() for e in row] for row in table.rows]
    assert {len(row) for row in rows} == {len(table.columns)}
    inline = [child for t in tokens for child in t.children or ()]
    kinds = {child.type for child in inline}
    assert kinds <= {"text", "text_special", "strong_open", "strong_close"}, kinds


@quick
@given(names)
def test_markdown_text_is_read_back(text: str) -> None:
    (paragraph,) = (
        MarkdownIt("commonmark").enable("table").parseInline("x " + markdown.escape(plain(text)))
    )
    read = "".join(child.content for child in paragraph.children or ())
    assert read.rstrip() == f"x {plain(text)}".rstrip()


def test_a_usual_name_is_not_made_unreadable() -> None:
    assert markdown.escape("evonorm_s0 +0.1 - 2.5") == "evonorm_s0 +0.1 - 2.5"


# ---------------------------------------------------------------- LaTeX

WORDS = {
    "textbackslash": "\\",
    "textasciicircum": "^",
    "textasciitilde": "~",
    "textless": "<",
    "textgreater": ">",
    "textbar": "|",
    "textquotesingle": "'",
    "textasciigrave": "`",
    "textdagger": "†",
    "ldots": "…",
}
TOKEN = re.compile(
    r"\\(?P<word>[a-z]+)\{\}|\\symbol\{(?P<code>\d+)\}|\\(?P<special>[{}$&#%_])"
    r"|\$\\(?P<maths>pm|times)\$|\{(?P<kept>[\[\]*])\}|(?P<ligature>\{\})|(?P<letter>.)",
    re.DOTALL,
)


def printed(source: str) -> str:
    """What LaTeX prints: an independent reading of the escapes. Fails at an unescaped special."""
    out = ""
    for token in TOKEN.finditer(source):
        kind, value = token.lastgroup, token[token.lastgroup or 0]
        if kind == "word":
            out += WORDS[value]
        elif kind == "code":
            out += chr(int(value))
        elif kind in ("special", "kept"):
            out += value
        elif kind == "maths":
            out += {"pm": "±", "times": "×"}[value]
        elif kind == "letter":
            assert value not in "\\{}$&#%_^~<>|\"'`[]*", source
            out += value
    return out


@quick
@given(names)
@example("--[*]{}-- ,,'' $\\pm$ \\\\")
def test_latex_has_no_unescaped_special(text: str) -> None:
    source = latex.escape(plain(text))
    assert printed(source) == plain(text)
    assert not re.search(r"--|,,|''|``|[?!]`|<<|>>", source)  # ligatures


@quick
@given(names)
def test_latex_rows_have_one_cell_for_each_column(name: str) -> None:
    table = ablation_table(document(hostile(name)))
    lines = to_latex(table).split("\n")
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert len(body) == len(table.rows)
    for line in body:
        assert line.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", line)) == len(table.columns) - 1
    assert sum(line.count(r"\begin{") for line in lines) == sum(
        line.count(r"\end{") for line in lines
    )


def test_a_negative_number_has_a_minus_and_no_hyphen() -> None:
    source = to_latex(ablation_table(document(beside([0.26, 0.28, 0.26]))))
    assert r"$-$0.0433 {[}$-$0.0577, $-$0.0290{]}" in source


def test_letters_beyond_latin_are_kept_and_said() -> None:
    def source(level: str) -> str:
        return to_latex(ablation_table(document(study({(level,): [0.3]}, {"x": [level]}))))

    assert "归一化 &" in source("归一化")
    assert "LuaLaTeX" in source("归一化")
    assert "LuaLaTeX" not in source("é±")


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
@pytest.mark.parametrize("name", [name for name in NAMES if name.isascii()])
def test_latex_compiles(name: str, tmp_path: Path) -> None:
    table = to_latex(ablation_table(document(hostile(name))))
    source = "\n".join(
        [
            r"\documentclass{article}\usepackage{booktabs}\begin{document}",
            table,
            r"\end{document}",
        ]
    )
    (tmp_path / "a.tex").write_text(source, encoding="utf-8")
    engine = ["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    ended = subprocess.run(engine, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout[-2000:]


# ---------------------------------------------------------------- CSV


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_line_for_each_cell_with_every_metric_unrounded() -> None:
    third = 1 / 3
    of = beside(
        [{"outcome": "diverged", "step": 12, "reason": "NaN, at once", "metrics": {"loss": 9.5}}],
        [{"outcome": "converged", "metrics": {"mAP": third, "AP: a, b": 0.25, "AP_large": -1.0}}],
    )
    base, arm = read(cells_csv(document(of)))
    assert float(base["mAP"]) == third
    assert (base["axis.norm"], base["seed"], base["outcome"]) == ("bn", "0", "converged")
    assert (base["AP: a, b"], base["AP_large"], base["loss"]) == ("0.25", "", "")
    assert (arm["outcome"], arm["step"], arm["reason"]) == ("diverged", "12", "NaN, at once")
    assert (arm["mAP"], arm["loss"]) == ("", "9.5")
    assert (base["baseline"], arm["baseline"]) == ("true", "false")


def test_names_that_would_be_a_fixed_column_stay_apart() -> None:
    cell = {"outcome": "converged", "metrics": {"mAP": 0.3, "seed": 7.0}}
    (row,) = read(cells_csv(document(study({("x",): [cell]}, {"outcome": ["x"]}))))
    assert (row["outcome"], row["axis.outcome"]) == ("converged", "x")
    assert (row["seed"], row["metric.seed"]) == ("0", "7.0")


def test_a_line_for_each_arm_with_the_comparison() -> None:
    base, arm = read(arms_csv(document(beside([0.34, 0.36, 0.36]))))
    assert float(arm["mAP.mean"]) == pytest.approx(1.06 / 3)
    assert float(arm["mAP.sd"]) == pytest.approx(math.sqrt(0.00026667 / 2), rel=1e-4)
    assert float(arm["mAP.low"]) == pytest.approx(0.043333 - 0.014342, abs=2e-6)
    assert (arm["mAP.verdict"], arm["outcomes"]) == ("better", "3 converged")
    assert (base["mAP.verdict"], base["mAP.words"]) == ("", "baseline")


def starts_formula(field: str) -> bool:
    """Whether a spreadsheet would run it: not a plain number, nor a dash alone."""
    if re.fullmatch(r"-|[+-]?[0-9.]+([eE][+-]?[0-9]+)?", field):
        return False
    return field[:1] in ("=", "+", "-", "@", "\t", "\r", "\n")


@quick
@given(names)
def test_csv_has_no_formula_and_loses_no_name(name: str) -> None:
    of = document(hostile(name))
    for text in (cells_csv(of), arms_csv(of)):
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert {len(row) for row in rows} == {len(rows[0])}
        assert len(set(rows[0])) == len(rows[0])
        assert not [field for row in rows for field in row if starts_formula(field)]
        assert len(rows) == 1 + len(of["cells" if text == cells_csv(of) else "arms"])
        # what is put before a formula is all that changes
        assert rows[1][0] in (plain(name), f"'{plain(name)}")
        assert len(text.splitlines()) == len(rows)


def test_numbers_and_an_absent_level_are_no_formulas() -> None:
    for harmless in ("-1", "+2.5e-3", "-", "bn", "a=1", ""):
        assert defused(harmless) == harmless
    for formula in ("=1", "-1+1", "@x", "+a", "-inf", "--", "- 1"):
        assert defused(formula) == f"'{formula}"


# ---------------------------------------------------------------- JSON


@quick
@given(names)
def test_json_holds_names_as_they_are(name: str) -> None:
    read = json.loads(to_json(document(hostile(name))))
    assert read["sweep"]["name"] == name
    assert read["arms"][1]["levels"] == {f"{name}1": name, f"{name}2": "-"}
