"""The seed report's own table and conclusions, from the data that are shipped.

    python -m dashboards.seed_report [--format text|md|csv|json] [--conclusions]

Every number in it is one run.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from dashboards.metrics import COCO
from dashboards.reference import Report, Row, seed_report
from dashboards.reference.claims import Assessment, seed_claims

TABLES = {
    "B": "bbox",
    "C": "CenterNet",
    "D": "Sections without a row in the tables",
    "E": "A revision one week later",
}
"""What the rows are, by how their ids begin."""

FAILED = "Unconvergence"  # the report's word


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.seed_report",
        description="The seed report's table, or what its ten conclusions rest on.",
    )
    parser.add_argument("--format", choices=("text", "md", "csv", "json"), default="text")
    parser.add_argument(
        "--conclusions", action="store_true", help="its conclusions, held against its numbers"
    )
    given = parser.parse_args(arguments)
    writers = CONCLUSIONS if given.conclusions else WRITERS
    try:
        sys.stdout.write(writers[given.format](seed_report()).rstrip("\n") + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # who read it (head, less) has gone; Python would try again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


# ---------------------------------------------------------------- cells and footnotes


def tables(report: Report) -> list[tuple[str, list[tuple[str, Row]]]]:
    """(title, rows by id), in the report's order."""
    out = []
    for letter, title in TABLES.items():
        out.append((title, [(id_, row) for id_, row in report if id_.startswith(letter)]))
    return out


def footnotes(report: Report) -> list[tuple[str, str, str]]:
    """(id, the cell, remark), in the order of the rows; the number of one is its place."""
    return [(id_, row.remark_on, row.row.remark) for id_, row in report if row.row.remark]


def cells(row: Row) -> dict[str, str]:
    """By column; a run that failed says so where its mAP would stand. Sections have like headings:
    their batch tells them apart."""
    batch = row.row.protocol.get("batch") if row.row.id.startswith("D") else None
    label = f"{row.row.label}, {batch}" if batch else row.row.label
    texts = {"label": label, **{metric: row.cell(metric) for metric in COCO}}
    return texts if row.row.converged else {**texts, "mAP": FAILED}


def _marked(report: Report, id_: str, row: Row, mark: str) -> dict[str, str]:
    """Cells with the marks of their footnotes; `mark` has a place for the number."""
    out = cells(row)
    for number, (of, column, _) in enumerate(footnotes(report), 1):
        if of == id_:
            out[column] += mark.format(number)
    return out


# ---------------------------------------------------------------- formats


def as_text(report: Report) -> str:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=io.StringIO(), width=400, color_system=None, highlight=False)
    for title, rows in tables(report):
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
        table.add_column("id")
        table.add_column("label")
        for metric in COCO:
            table.add_column(metric, justify="right", no_wrap=True)
        for id_, row in rows:
            marked = _marked(report, id_, row, " [{}]").values()
            table.add_row(id_, *map(Text, marked))
        console.print(table)
    for number, (id_, _, remark) in enumerate(footnotes(report), 1):
        console.print(Text(f"[{number}] {id_}: {remark}"))
    console.print(Text(f"\n{report.source}"))
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def as_markdown(report: Report) -> str:
    """With the report's own headings; footnotes as GitHub has them."""
    lines = []
    for title, rows in tables(report):
        lines += [f"### {title}", "", _line(report.heading.values()), _line(["---"] * 13)]
        lines += [_line(_marked(report, id_, row, "[^{}]").values()) for id_, row in rows]
        lines.append("")
    for number, (id_, _, remark) in enumerate(footnotes(report), 1):
        lines.append(f"[^{number}]: {id_}: {remark}")
    return "\n".join([*lines, "", report.source])


def as_csv(report: Report) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "label", *COCO, "converged", "section", "train_hours", "remark"])
    for id_, row in report:
        known = row.row.metrics
        numbers = [f"{known[metric]:.3f}" if metric in known else "" for metric in COCO]
        converged = "true" if row.row.converged else "false"
        hours = "" if row.train_hours is None else row.train_hours
        rest = [converged, row.section, hours, row.row.remark]
        writer.writerow([id_, row.row.label, *numbers, *rest])
    return out.getvalue()


def as_json(report: Report) -> str:
    rows = []
    for _, row in report:
        given = asdict(row)
        rows.append({**given.pop("row"), **given})
    return _json({"source": report.source, "protocol": report.protocol, "rows": rows})


def _line(texts: Any) -> str:
    return f"|{'|'.join(text.replace('|', chr(92) + '|') for text in texts)}|"


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1)


# ---------------------------------------------------------------- conclusions


def _head(claims: list[Assessment]) -> str:
    one = claims[0]
    return (
        f"{len(claims)} conclusions of the seed report, held against its own numbers. Every number "
        f"is one run: nothing is established. The only repeat, {' and '.join(one.rerun)}, is "
        f"{one.noise:.3f} apart in mAP, which is the least that the noise can be taken for."
    )


def _claims_text(report: Report) -> str:
    claims = seed_claims()
    return "\n\n".join([_head(claims), *(claim.text for claim in claims)])


def _claims_markdown(report: Report) -> str:
    claims = seed_claims()
    return "\n".join([_head(claims), "", *(f"- {claim.text}" for claim in claims)])


def _claims_csv(report: Report) -> str:
    """A line for each pair."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = ["claim", "support", "part", "before", "after", "metric", "delta", "tells", "note"]
    writer.writerow(columns)
    for claim in seed_claims():
        for part, pairs in (("evidence", claim.pairs), ("beside", claim.besides)):
            for p in pairs:
                delta = "" if p.delta is None else f"{p.delta:+.3f}"
                row = [claim.id, claim.support, part, p.before, p.after, p.metric, delta]
                writer.writerow([*row, p.tells, p.note])
    return out.getvalue()


def _claims_json(report: Report) -> str:
    return _json(
        [
            {**asdict(claim), "certainty": "single run", "text": claim.text}
            for claim in seed_claims()
        ]
    )


WRITERS = {"text": as_text, "md": as_markdown, "csv": as_csv, "json": as_json}
CONCLUSIONS = {
    "text": _claims_text,
    "md": _claims_markdown,
    "csv": _claims_csv,
    "json": _claims_json,
}

if __name__ == "__main__":
    sys.exit(main())
