r"""The ablation table in LaTeX, ready to paste. Of packages it needs booktabs alone; names beyond
Latin letters need LuaLaTeX or XeLaTeX, which a comment says where it is so."""

from __future__ import annotations

import re
import textwrap

from dashboards.tables import Column, Entry, Table

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",  # babel makes shorthands of it
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    # after \\ and \midrule these would be arguments
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "†": r"\textdagger{}",
    "…": r"\ldots{}",
    "×": r"$\times$",
}
WIDTH = 26  # letters of a line of a cell
_LIGATURE = re.compile(r"([-,])(?=\1)")  # -- and ,,
_SIGN = re.compile(r"(?<![\w.+-])-(?=\d)")  # of a number: `-` would be a hyphen


def to_latex(table: Table) -> str:
    r"""A `table` environment: caption, the table between booktabs' rules, notes beneath."""
    caption = escape(table.title) + (f": {escape(table.question)}" if table.question else "")
    layout = "".join("r" if column.number else "l" for column in table.columns)
    head = [escape(column.title) for column in table.columns]
    notes = [f"{_mark(mark)} {_sentence(text)}" for mark, text in table.notes]
    notes += [_sentence(text) for text in (*table.remarks, table.provenance)]
    lines = [
        *_preamble(table),
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{_label(table.title)}}}",
        rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        *(" & ".join(map(_entry, row, table.columns)) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        "",
        r"\smallskip",
        r"\begin{minipage}{\linewidth}\raggedright",
        *(rf"{note}\par" for note in notes),
        r"\end{minipage}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """`text`, of one line, so that LaTeX prints it as it is."""
    return _LIGATURE.sub(r"\1{}", "".join(_SPECIAL.get(c, c) for c in text))


def _preamble(table: Table) -> list[str]:
    lines = [r"% needs \usepackage{booktabs}"]
    if any(ord(c) > 0xFF and c not in _SPECIAL for c in _texts(table)):
        lines.append("% holds letters that pdfLaTeX may not know: use LuaLaTeX or XeLaTeX, UTF-8")
    return lines


def _texts(table: Table) -> str:
    rows = [entry.text for row in table.rows for entry in row]
    notes = [text for _, text in table.notes]
    columns = [column.title for column in table.columns]
    return "".join([table.title, table.question, *columns, *rows, *notes, *table.remarks])


def _entry(entry: Entry, column: Column) -> str:
    """A long text in lines, as columns of a fixed width would need a further package."""
    if column.number:
        lines = entry.text.split(", ") if re.match(r"\d", entry.text) else [entry.text]
        texts = ["$-$".join(map(escape, _SIGN.split(line))) for line in lines]
    else:
        texts = [escape(line) for line in textwrap.wrap(entry.text, WIDTH)]
    if entry.strong:
        texts = [rf"\textbf{{{text}}}" for text in texts]
    if entry.mark:
        texts[-1] += _mark(entry.mark)
    if len(texts) < 2:
        return "".join(texts)
    side = "r" if column.number else "l"
    return rf"\begin{{tabular}}[t]{{@{{}}{side}@{{}}}}" + r" \\ ".join(texts) + r"\end{tabular}"


def _mark(mark: str) -> str:
    return rf"\textsuperscript{{{escape(mark)}}}" if mark else ""


def _sentence(text: str) -> str:
    return escape(text) + ("" if text.endswith((".", "?", "!", "…")) else ".")


def _label(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
