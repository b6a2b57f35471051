"""How the commands answer: exit codes, lines on a terminal, JSON."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rich.console import Console, RenderableType

EXIT_OK, EXIT_FAULTS, EXIT_MISTAKE, EXIT_DRAINED, EXIT_INTERRUPTED = 0, 1, 2, 3, 130


def print_text(text: str) -> None:
    """To standard output, at once; who read it (head, less) may have gone."""
    try:
        print(text, flush=True)
    except BrokenPipeError:  # Python would try again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def speaker(screen: Console) -> Callable[[str], None]:
    """What shows a text on `screen` as it is: its brackets are no markup, its lines not folded."""
    return partial(screen.print, markup=False, soft_wrap=True)


def as_text(shown: RenderableType) -> str:
    """What rich would show, as plain text as wide as the screen."""
    console = Console(highlight=False)
    with console.capture() as capture:
        console.print(shown)
    return capture.get().rstrip()


def to_json(data: Any) -> str:
    """Standard JSON: what is no number there (NaN, infinity) is its name, a text."""
    return json.dumps(_plain(data), indent=1)


def _plain(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return str(data)
    return data
