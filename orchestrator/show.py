"""What a cell is: its resolved config, where it comes from, where its files are; and the command
that trains it alone.

    python -m orchestrator.show CELL [--cmd | --json]

CELL is an id or the beginning of one, a label (`norm=gn seed=0`), or the MLflow run of an attempt.
What is printed is a config that `python -m detcore.train` takes: the rest stands in comments.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from detcore.config import CODE_VERSION, Config, ConfigError, from_dict
from detcore.result import METRICS
from orchestrator.answers import print_text, to_json
from orchestrator.cells import find_cell
from orchestrator.cli import CellError, add_cell_arguments, answered
from orchestrator.sweep.identity import cell_id
from orchestrator.tracking.attempts import Attempt, Records, deciding, open_records
from orchestrator.tracking.provenance import code_tags
from orchestrator.tracking.runs import as_yaml

_PROVENANCE = (
    *("git.", "version.", "data.", "code.", "cpu.", "gpu.", "threads."),
    *("resources.", "ray.", "orchestrator."),
)


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    return answered(lambda: _show(args))


def _show(args: argparse.Namespace) -> None:
    records = open_records()
    attempts = find_cell(records, " ".join(args.cell))
    says = deciding(attempts)
    config = config_of(records, says)
    if args.cmd:
        for note in notes_on(says, config):
            print(f"note: {note}", file=sys.stderr)
        print_text(command_of(says, config))
        return
    found = describe(records, says, len(attempts), config)
    print_text(to_json(found) if args.json else to_text(found))


def config_of(records: Records, attempt: Attempt) -> dict[str, Any]:
    """The resolved config of an attempt, from its run, else from its folder. Raises CellError when
    it is in neither."""
    config = _parsed(records.text(attempt.run_id, "config.yaml"))
    if config is None:  # files cannot be fetched from everywhere
        config = _config_in(attempt.folder)
    if config is None:
        raise CellError(
            f"cell {attempt.cell_id}: its config is neither among the files of its run "
            f"({attempt.run_id}) nor in {attempt.folder or 'a folder of its own'}"
        )
    return config


def command_of(attempt: Attempt, config: Mapping[str, Any]) -> str:
    """The shell command that trains the cell alone, without Ray and MLflow, to the same numbers
    (on CPUs of the same kind bit for bit).

    It is to be given in the folder of the sweep, where relative paths mean what they meant, and
    sets what Ray had set: the device, and the threads of a process that reserves so many CPUs.
    """
    folder, tags = attempt.folder, attempt.tags
    python = "python" if shutil.which("python") == sys.executable else shlex.quote(sys.executable)
    parts, file = [], f"{attempt.cell_id}.yaml"
    if folder and folder.is_dir() and len(folder.parents) > 2:
        root = folder.parents[2]  # ROOT/mlruns/cells/ID
        parts.append(f"cd {shlex.quote(str(root))}")
        if _same(_config_in(folder), config):
            file = str((folder / "config.yaml").relative_to(root))
    if not file.endswith("config.yaml"):
        parts.append(f"{python} -m orchestrator.show {attempt.cell_id} > {file}")
    runtime = config.get("runtime", {})
    settings = ""
    if runtime.get("device", "auto") == "auto":
        on_gpu = float(tags.get("resources.gpus_per_worker", 0)) > 0
        settings = f" runtime.device={'cuda' if on_gpu else 'cpu'}"
    threads = ""
    if not runtime.get("threads"):
        cpus = max(int(float(tags.get("resources.cpus_per_worker", 1))), 1)
        threads = f"OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{cpus}}} "  # Ray sets it where it is unset
    train = f"{threads}{python} -m detcore.train {shlex.quote(file)}{settings}"
    return " && ".join([*parts, f"{train} --workdir runs/{attempt.cell_id}"])


def notes_on(attempt: Attempt, config: Mapping[str, Any]) -> list[str]:
    """Why the command may give other numbers here than the cell had."""
    then, now = attempt.tags, code_tags()
    notes = []
    if (version := then.get("code.version", CODE_VERSION)) != CODE_VERSION:
        notes.append(f"the cell was trained by code version {version}, this is {CODE_VERSION}")
    elif (other := _other_id(attempt, config)) is not None:
        notes.append(f"its config means something else to this code: its id would be {other}")
    for name in ("git.commit", "version.torch"):
        if name in then and name in now and then[name] != now[name]:
            notes.append(f"{name} was {then[name]}, here it is {now[name]}")
    if then.get("git.dirty") == "true":
        notes.append("the code it was trained by had changes that were not committed")
    if attempt.folder is None or not attempt.folder.is_dir():
        notes.append(f"{attempt.folder} is not on this machine; paths of data may differ as well")
    elif (attempt.folder.parents[2] / "runs" / attempt.cell_id / "checkpoint.pt").exists():
        notes.append(f"runs/{attempt.cell_id} is there: the command goes on from its checkpoint")
    return notes


def describe(
    records: Records, attempt: Attempt, attempts: int, config: Mapping[str, Any]
) -> dict[str, Any]:
    """All that is shown; `attempt` says how the cell stands, `attempts` is how many there were."""
    tags, folder = attempt.tags, attempt.folder
    numbers = attempt.run.data.metrics
    there = sorted(f.name for f in folder.iterdir()) if folder and folder.is_dir() else []
    return {
        "id": attempt.cell_id,
        "label": attempt.label,
        "sweep": attempt.sweep,
        "outcome": attempt.outcome,
        "metrics": {name: numbers[name] for name in METRICS if name in numbers},
        "axes": {k.removeprefix("axis."): v for k, v in tags.items() if k.startswith("axis.")},
        "seed": config.get("seed"),
        "attempt": attempt.number,
        "attempts": attempts,
        "run_id": attempt.run_id,
        "sweep_run_id": tags.get("sweep.run_id", ""),
        "provenance": {k: v for k, v in sorted(tags.items()) if k.startswith(_PROVENANCE)},
        "folder": str(folder or ""),
        "files": [name for name in there if not name.startswith(".")],
        "artifacts": records.files(attempt.run_id),
        "mlflow": records.page(attempt.run),
        "command": command_of(attempt, config),
        "config": config,
    }


def to_text(found: Mapping[str, Any]) -> str:
    """The config as YAML; what else is known stands above it in comments."""
    score = f", mAP {found['metrics']['mAP']:.4f}" if "mAP" in found["metrics"] else ""
    lines = [
        found["label"],
        f"cell {found['id']} of sweep {found['sweep']}: {found['outcome']}{score}",
        f"attempt {found['attempt']} of {found['attempts']}",
        f"MLflow run {found['run_id']}: {found['mlflow']}",
        f"artifacts: {', '.join(found['artifacts']) or 'none that can be listed'}",
        f"folder: {found['folder'] or 'not known'}",
        f"files: {', '.join(found['files']) or 'none on this machine'}",
        *(f"{name}: {value}" for name, value in found["provenance"].items()),
        f"alone: {found['command']}",
    ]
    # a name that a user chose must not break out of its comment
    safe = ("".join(c if c.isprintable() else "?" for c in line) for line in lines)
    return "\n".join([*(f"# {line}" for line in safe), as_yaml(found["config"]).rstrip()])


def _other_id(attempt: Attempt, config: Mapping[str, Any]) -> str | None:
    """The id that this code gives the config, when it is not the cell's."""
    try:
        now = cell_id(from_dict(Config, dict(config)), attempt.tags.get("data.fingerprint", ""))
    except ConfigError:
        return "none, as it is not valid"
    return now if now != attempt.cell_id else None


def _same(file: Mapping[str, Any] | None, config: Mapping[str, Any]) -> bool:
    """Whether the config in the folder is the recorded one: a gang settles the device in it."""
    if file is None:
        return False
    ours, theirs = (
        {**c, "runtime": {k: v for k, v in c.get("runtime", {}).items() if k != "device"}}
        for c in (config, file)
    )
    return ours == theirs


def _config_in(folder: Path | None) -> dict[str, Any] | None:
    try:
        return _parsed((folder / "config.yaml").read_text(encoding="utf-8")) if folder else None
    except (OSError, UnicodeDecodeError):
        return None


def _parsed(text: str | None) -> dict[str, Any] | None:
    try:
        config = yaml.safe_load(text) if text else None
    except yaml.YAMLError:
        return None
    return config if isinstance(config, dict) else None


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.show",
        description="The resolved config of a cell, its ids, provenance, files and links.",
        epilog="Exit codes: 0 told, 2 no such cell, or MLflow does not answer.",
    )
    add_cell_arguments(parser)
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--cmd", action="store_true", help="only the shell command that trains this cell alone"
    )
    either.add_argument("--json", action="store_true", help="for programs")
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
