"""The command line of `python -m detcore.train`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import yaml

from detcore.config import Config, ConfigError, YamlError, from_dict, read_yaml, set_path

SWEEP_KEYS = {"base", "axes", "seeds", "metric"}  # a sweep's, beside `version`; no config's


def load_config(file: Path, overrides: list[str]) -> Config:
    """The config in `file` with `a.b=c` laid over it; ValueError with one line for any mistake."""
    source = read_yaml(file)
    if not isinstance(source.data, dict):
        raise source.error((), "must be a mapping of settings")
    data = source.data
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(
                f"{text!r} is not an override; write key=value, for example optim.lr=0.01"
            )
        data = set_path(data, key, parse_value(value))
    if "version" in data and data.keys() & SWEEP_KEYS:
        problem = f"this is a sweep file; run it with python -m orchestrator.run {file}"
        raise YamlError(file, None, problem)
    try:
        return from_dict(Config, data)
    except ConfigError as error:
        names = [o.partition("=")[0] for o in overrides]
        here = ".".join(error.path)
        if any(here.startswith(n) or n.startswith(here) for n in names if here):
            raise ValueError(str(error)) from None
        raise source.error(error.path, error.problem) from None


def parse_value(text: str) -> object:
    """A command-line value as YAML reads it, but with 1e-4 as the number that is meant."""
    value = yaml.safe_load(text)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m detcore.train", description="Train one detector and say how it ended."
    )
    parser.add_argument("config", type=Path, help="a YAML file of settings")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="settings over the file's")
    parser.add_argument(
        "--workdir", type=Path, help="where results go (default: runs/NAME of the config)"
    )
    args = parser.parse_intermixed_args(argv)
    try:
        config = load_config(args.config, args.overrides)
    except (YamlError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if config.train.workers > 1 and "WORLD_SIZE" not in os.environ:
        try:
            _try_first(config)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        _exec_torchrun(config.train.workers, argv if argv is not None else sys.argv[1:])
    return _train(config, args.workdir or Path("runs") / args.config.stem)


def _try_first(config: Config) -> None:
    """Raise the ValueError that every rank would: torchrun buries it under tracebacks. Costs one
    reading of the annotations; the first reading also draws or downloads what is not there yet."""
    from detcore.distributed import Gang, pick_device
    from detcore.setup import first_detector, open_splits

    if config.runtime.device == "cuda":
        pick_device("cuda", Gang())
    first_detector(config, open_splits(config.data)[0])


def _exec_torchrun(ranks: int, argv: list[str]) -> None:
    """Become the launcher of `ranks` processes of this same command."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc-per-node", str(ranks), "-m", "detcore.train", *argv]
    sys.stdout.flush()
    os.execv(sys.executable, launch)


def _train(config: Config, workdir: Path) -> int:
    from detcore.distributed import gang_from_environment, process_group
    from detcore.result import METRICS, Point
    from detcore.train import train

    gang = gang_from_environment()

    def show(point: Point) -> None:
        values = "  ".join(f"{k} {v:.4g}" for k, v in point.values.items())
        print(f"step {point.step:>6}  {values}", flush=True)

    try:
        with process_group(gang, "env://", config.runtime.device):
            result = train(config, workdir=workdir, gang=gang, report=show)
    except ValueError as error:  # any rank may be the one that meets it
        print(error if gang.is_first else f"worker {gang.rank}: {error}", file=sys.stderr)
        return 2
    if gang.is_first:
        for name in METRICS:
            if name in result.metrics:
                print(f"{name:>9}  {result.metrics[name]:.4f}")
        print(f"{result.outcome}: {result.reason}\n{workdir / 'result.json'}")
    return 0 if result.outcome in ("converged", "diverged", "stalled") else 1
