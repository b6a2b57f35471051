"""Write what a sweep has shown: as a page, a table to paste, data, or to the terminal.

    python -m dashboards.report SWEEP [--format html|md|tex|csv|json] [--out PATH]
                                      [--metric NAME] [--metrics A,B] [--variant V]

SWEEP is a sweep's name or its YAML file. What is written comes from MLflow alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dashboards.plain import plain
from dashboards.remarks import Document
from dashboards.tables import Table, TableError, ablation_table

EXIT_OK, EXIT_MISTAKE, EXIT_INTERRUPTED = 0, 2, 130

FORMATS = ("html", "md", "tex", "csv", "json")
SUFFIXES = {
    **{f".{name}": name for name in FORMATS},
    **{".htm": "html", ".markdown": "md", ".latex": "tex"},
}


class ReportError(ValueError):
    """A mistake in what was asked for; one line."""


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    from dashboards.store import LedgerError

    try:
        kind = _kind(args)
        _check_options(args, kind)
        _check_place(args.out)
        text = _made(args, kind)
        if args.out is None:
            _print(text)
        else:
            write_whole(args.out, text)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (ReportError, TableError, LedgerError) as error:
        print(plain(error), file=sys.stderr)
        return EXIT_MISTAKE
    return EXIT_OK


def to_json(document: Document) -> str:
    """Standard JSON: an error rather than a NaN."""
    return json.dumps(document, allow_nan=False, indent=1) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path`, or leave what is there as it is. Raises ReportError."""
    place = path.resolve()  # a link stays a link
    if place.exists() and not place.is_file():  # a pipe or a device takes the text and stays
        beginning = place
    else:
        beginning = place.with_name(f".{place.name[:200]}.{os.getpid()}.part")
    try:
        beginning.write_text(text, encoding="utf-8", newline="")
        if beginning != place:
            beginning.replace(place)
    except OSError as error:
        if beginning != place:
            beginning.unlink(missing_ok=True)
        raise ReportError(f"--out {path}: {error.strerror or error}") from error


# ---------------------------------------------------------------- what is written


def _made(args: argparse.Namespace, kind: str) -> str:
    # MLflow takes seconds to import: mistakes in the arguments come first
    from dashboards.document import document
    from dashboards.images import over_images
    from dashboards.results import Reader
    from dashboards.which import sweep_name

    reader = Reader()
    study = reader.study(sweep_name(args.sweep), args.variant)
    if args.variant is None and (starts := reader.other_starts(study)):
        print(
            f"of {study.name} this is the start {study.variant} "
            f"({study.arguments or 'no arguments'}); also on record, with --variant: "
            f"{', '.join(starts)}",
            file=sys.stderr,
        )
    images = over_images(study, reader.matches, args.images) if args.images else []
    if kind == "json":
        return to_json(document(study, reader.curves(study), images=images))
    if kind == "html":
        from dashboards.render import render

        return render(document(study, reader.curves(study), images=images))
    if kind == "csv":
        from dashboards.csv_table import arms_csv, cells_csv

        if args.per == "arm":
            return arms_csv(document(study))
        return cells_csv(document(study, compared=[]))
    made = document(study, compared=[args.metric or study.target.name], images=images)
    if kind == "":
        return _terminal(args, made)
    others = None if args.metrics is None else _names(args.metrics)
    return _writer(kind)(ablation_table(made, args.metric, others))


def _writer(kind: str) -> Callable[[Table], str]:
    if kind == "tex":
        from dashboards.latex import to_latex

        return to_latex
    from dashboards.markdown import to_markdown

    return to_markdown


def _terminal(args: argparse.Namespace, made: dict[str, Any]) -> str:
    """Without --metrics the one metric alone: more do not fit beside it."""
    from dashboards.terminal import as_text, to_rich

    table = ablation_table(made, args.metric, _names(args.metrics or ""))
    # those over images stand among the remarks
    said = [plain(one["text"]) for one in made["conclusions"] if one["kind"] != "images"]
    return as_text(to_rich(table, said))


def _names(listed: str) -> list[str]:
    """Names with a comma in them stand in quotation marks."""
    rows = csv.reader([listed], skipinitialspace=True)
    return [name.strip() for row in rows for name in row if name.strip()]


# ---------------------------------------------------------------- where to


def _kind(args: argparse.Namespace) -> str:
    """The format; empty for the terminal's table."""
    if args.format or args.out is None:
        return args.format or ""
    if kind := SUFFIXES.get(args.out.suffix.lower()):
        return kind
    raise ReportError(
        f"--out {args.out}: the format does not follow from the name; give --format "
        f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
    )


def _check_options(args: argparse.Namespace, kind: str) -> None:
    if args.per and kind != "csv":
        raise ReportError("--per goes with --format csv")
    if args.images and kind == "csv":
        raise ReportError("--images: csv has the numbers of single cells; it goes with the others")
    if kind in ("html", "csv", "json"):
        for option in ("metric", "metrics"):
            if getattr(args, option) is not None:
                raise ReportError(f"--{option}: {kind} has every metric; it goes with md and tex")


def _check_place(path: Path | None) -> None:
    """Before MLflow is read, which takes a while."""
    if path is None:
        return
    folder = path.absolute().parent
    try:
        is_folder, has_place = path.is_dir(), folder.is_dir()
    except OSError as error:  # a name that is too long
        raise ReportError(f"--out {path}: {error.strerror}") from error
    if is_folder:
        raise ReportError(f"--out {path}: is a folder; give the name of a file in it")
    if not has_place:
        raise ReportError(f"--out {path}: there is no folder {folder}")


def _print(text: str) -> None:
    """To standard output as UTF-8, at once; who read it (head, less) may have gone."""
    try:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8")
        print(text, end="", flush=True)
    except BrokenPipeError:  # Python would try again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _draws(text: str) -> int:
    if not text.isdigit() or not 100 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"must be a number from 100 to 100000, is {text!r}")
    return int(text)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.report",
        description="Write what a sweep has shown, from MLflow. Without --format and --out: the "
        "table and the conclusions, for the terminal.",
        epilog="Exit codes: 0 written, 2 a mistake in the arguments or a store that does not "
        "answer, 130 interrupted.",
    )
    add = parser.add_argument
    add("sweep", metavar="SWEEP", help="a sweep's name, or its YAML file")
    add("--format", choices=FORMATS, help="default: by the suffix of --out")
    add("--out", type=Path, metavar="PATH", help="default: standard output")
    add(
        "--metric",
        metavar="NAME",
        help="the metric that arms are compared on (default: the one that the sweep decides by)",
    )
    add(
        "--metrics",
        metavar="A,B",
        help="means to show beside it (default: AP50,AP75; in the terminal none); '' for none",
    )
    add(
        "--images",
        nargs="?",
        const=1000,
        type=_draws,
        metavar="DRAWS",
        help="for arms with one seed: how much a difference depends on which images were "
        "evaluated, by so many draws of them (1000); seconds for 200 images, minutes for 5000",
    )
    add("--per", choices=("cell", "arm"), help="a line of CSV (default: cell)")
    add(
        "--variant", metavar="V", help="the beginning of a variant of the sweep, or of its run's id"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
