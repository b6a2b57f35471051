"""Data that are not there: told before a sweep starts, and not by each cell in turn."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from detcore.config.schema import CocoFolder
from detcore.data.fingerprint import data_fingerprint
from detcore.data.folder import (
    DataError,
    SplitName,
    find_annotations,
    find_images,
    missing_files,
)
from orchestrator.sweep.expand import Cell

ABSENT = "absent"
"""Stands for the fingerprint of data that are not there."""


def add_fingerprints(cells: Iterable[Cell], need_data: bool, known: dict[Any, str]) -> list[str]:
    """Add the fingerprints of what `cells` train on to `known`; notes on data that are absent."""
    notes = []
    for source in dict.fromkeys(cell.config.data.source for cell in cells):
        if source not in known:
            try:
                known[source] = data_fingerprint(source)
            except DataError as error:
                if need_data:
                    raise
                known[source] = ABSENT
                notes.append(f"note: {error}; the cells' ids are not those of a real run")
    return notes


def check_images(cells: Iterable[Cell], need_data: bool, known: Mapping[Any, str]) -> list[str]:
    """Every image that is listed must be there, unless bad images are skipped: better told now than
    by each cell in turn."""
    notes = []
    strict = (c.config.data.source for c in cells if c.config.data.on_bad_image == "error")
    for source in dict.fromkeys(strict):
        if not isinstance(source, CocoFolder) or known[source] == ABSENT:
            continue
        for split in get_args(SplitName):
            listed = json.loads(find_annotations(source, split).read_bytes())["images"]
            names = [record["file_name"] for record in listed]
            folder = find_images(source, split, names)
            if missing := missing_files(folder, names):
                problem = (
                    f"{folder / missing[0]}: the image is listed but absent ({len(missing)} of "
                    f"{len(names)} are; data.on_bad_image: skip leaves them out)"
                )
                if need_data:
                    raise DataError(problem)
                notes.append(f"note: {problem}; a real run ends here")
    return notes
