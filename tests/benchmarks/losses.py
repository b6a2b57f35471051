"""The losses of 20 steps, and the metrics of four evaluations, with and without each thing that
makes training faster, and with the code of another commit: the same to every digit, or to the
tolerance that is printed.

    python -m tests.benchmarks losses [--against COMMIT]

Every detector of sweeps/bases/shapes_tiny*.yaml, one process, from the same seed. What changes the
order of a sum (the memory format; the compiler, on CUDA) changes its last digits, which training
then makes larger from step to step: the first 5 losses must agree to 1e-5, all to the
tolerance. All else must change nothing. Exits with 1 where something is outside.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.side_by_side import write

ROOT = Path(__file__).parents[2]
DETECTORS = ("", "_fcos", "_centernet", "_efficientdet")
STEPS = 20
SETTINGS = {
    "data": {"input": {"train_short_sides": [96, 112]}},  # so that images are resized
    "train": {"steps": STEPS, "workers": 1, "batch_per_gpu": 2},
    "optim": {"lr": 0.005},  # small, or 20 steps are enough for a last digit to become the first
    "schedule": {"warmup_steps": STEPS - 1},
    "eval": {"every": 5},
    "runtime": {"log_every": 1, "checkpoint_every": 0, "loader_workers": 0, "threads": 1},
}
EXACT, ROUNDED = 0.0, 1e-2
FIRST, FIRST_APART = 5, 1e-5  # these steps must agree so closely in any case
ONE_BOX = "one box at a time"  # in the matchers
WAYS: dict[str, tuple[float, dict[str, Any]]] = {
    "loader processes": (EXACT, {"runtime": {"loader_workers": 2}}),
    "resized images, first run": (EXACT, {"runtime": {"cache_gb": 1.0}}),
    "resized images, second run": (EXACT, {"runtime": {"cache_gb": 1.0}}),
    "scored beside training": (EXACT, {"runtime": {"scoring": "beside"}}),
    "hotcoco": (EXACT, {"runtime": {"coco_eval": "hotcoco"}}),
    ONE_BOX: (EXACT, {}),
    "channels_last": (ROUNDED, {"runtime": {"channels_last": True}}),
}
ON_CUDA = {"compile": (ROUNDED, {"runtime": {"compile": True}})}

# also run by the code of other commits: what it imports has to be there as well
TRAIN = """
import json, sys, tempfile, yaml
from pathlib import Path
from detcore.config import Config, from_dict
from detcore.config.load import merge
from detcore.train import train
base, settings, one_box = json.loads(sys.argv[1])
if one_box:
    from detcore.matchers import chunks
    chunks.PAIRS = 1
config = from_dict(Config, merge(yaml.safe_load(Path(base).read_text()), settings))
points = []
with tempfile.TemporaryDirectory() as folder:
    train(config, workdir=Path(folder), report=points.append)
losses = [p.values["loss/total"] for p in points if "loss/total" in p.values]
scores = sorted((p.step, sorted(p.values.items())) for p in points if "mAP" in p.values)
print(json.dumps([losses, scores]))
"""


Run = tuple[list[float], list[Any]]  # losses, and the metrics of each evaluation


def trained(base: Path, settings: dict[str, Any], code: Path, one_box: bool = False) -> Run:
    """In a process of its own, which imports detcore from `code`."""
    ran = subprocess.run(
        [sys.executable, "-c", TRAIN, json.dumps([str(base), settings, one_box])],
        cwd=code,
        env={**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        sys.exit(ran.stderr)
    losses, scores = json.loads(ran.stdout.splitlines()[-1])
    assert (len(losses), len(scores)) == (STEPS, STEPS // 5)
    return losses, scores


def extract(commit: str, folder: Path) -> Path:
    packed = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def apart(ours: Run, theirs: Run, limit: float) -> float:
    """The largest difference of a loss, relative; infinite where the first steps differ by more
    than rounding, or nothing may differ and a metric does."""
    each = [abs(a / b - 1) for a, b in zip(ours[0], theirs[0], strict=True)]
    if max(each[:FIRST]) > FIRST_APART or (limit == EXACT and ours[1] != theirs[1]):
        return float("inf")
    return max(each)


def main() -> int:
    import torch

    from detcore.config.load import merge

    parser = argparse.ArgumentParser(description="The losses of 20 steps, before and after.")
    parser.add_argument("--against", metavar="COMMIT", help="also with the code of this commit")
    args = parser.parse_args()
    ways = WAYS | (ON_CUDA if torch.cuda.is_available() else {})
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        os.environ["DETCORE_CACHE"] = str(scratch / "cache")
        other = extract(args.against, scratch / "other") if args.against else None
        for detector in DETECTORS:
            base = ROOT / "sweeps/bases" / f"shapes_tiny{detector}.yaml"
            plain = trained(base, SETTINGS, ROOT)
            found = {
                way: (
                    limit,
                    trained(base, merge(SETTINGS, change), ROOT, way == ONE_BOX),
                )
                for way, (limit, change) in ways.items()
            }
            if other:
                found[f"code of {args.against}"] = (EXACT, trained(base, SETTINGS, other))
            for way, (limit, values) in found.items():
                far = apart(values, plain, limit)
                failed += far > limit
                said = "" if far <= limit else "   OUTSIDE"
                print(f"{base.stem:26} {way:28} {far:.1e} (at most {limit:g}){said}", flush=True)
                rows.append({"base": base.stem, "way": way, "apart": far, "tolerance": limit})
    write("losses", {"steps": STEPS, "against": args.against, "rows": rows})
    return bool(failed)


if __name__ == "__main__":
    raise SystemExit(main())
