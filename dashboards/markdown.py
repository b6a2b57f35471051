"""The ablation table in Markdown (GitHub's tables), ready to paste."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dashboards.tables import Entry, Table

_MARKS = re.compile(r"[\\`*_\[\]~$#]")
# an entity, where a backslash would not do: `\|` counts differently from parser to parser
_ENTITIES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord("|"): "&#124;"}


def to_markdown(table: Table) -> str:
    """Title and question, the table, its notes. Names cannot break out of their cells."""
    title = f"**{escape(table.title or 'sweep')}**"
    if table.question:
        title += f": {escape(table.question)}"
    lines = [title, ""]
    lines.append(_row(escape(column.title) for column in table.columns))
    lines.append(_row("---:" if column.number else "---" for column in table.columns))
    lines += [_row(_entry(entry) for entry in row) for row in table.rows]
    lines.append("")
    lines += [f"- {mark} {escape(text)}" for mark, text in table.notes]
    lines += [f"- {escape(text)}" for text in table.remarks]
    lines.append(f"- {escape(table.provenance)}")
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """`text`, of one line, so that Markdown shows it as it is and HTML in it is text."""
    return _MARKS.sub(_escaped, text).translate(_ENTITIES)


def _escaped(found: re.Match[str]) -> str:
    mark, text, at = found[0], found.string, found.start()
    within = text[at - 1 : at].isalnum() and text[at + 1 : at + 2].isalnum()
    return mark if mark == "_" and within else f"\\{mark}"  # evonorm_s0 is no emphasis


def _entry(entry: Entry) -> str:
    text = escape(entry.text)
    if entry.strong and text:
        text = f"**{text}**"
    return f"{text} {entry.mark}".strip()


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
