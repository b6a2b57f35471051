"""All benchmarks: `python -m tests.benchmarks` lists them; with the name of one, and its arguments,
it is run."""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).parent


def benchmarks() -> dict[str, str]:
    """By name, what it measures. Those are the files that run something when they are started."""
    found = {}
    for file in sorted(HERE.glob("*.py")):
        text = file.read_text()
        if file.stem != "__main__" and 'if __name__ == "__main__":' in text:
            doc = ast.get_docstring(ast.parse(text)) or ""
            found[file.stem] = " ".join(doc.split("\n\n")[0].split())
    return found


def main() -> int:
    known = benchmarks()
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        for name, what in known.items():
            print(f"{name:14} {what}")
        return 0
    name = sys.argv.pop(1)
    if name not in known:
        print(f"{name}: no such benchmark; choices: {', '.join(known)}", file=sys.stderr)
        return 2
    sys.argv[0] = str(HERE / f"{name}.py")
    runpy.run_module(f"tests.benchmarks.{name}", run_name="__main__")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
