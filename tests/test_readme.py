"""The README is true to the repository: its excerpt, its links, its commands' options."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from detcore.config import schema
from orchestrator.run import _parse

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", README, flags=re.MULTILINE | re.DOTALL)


def test_the_excerpt_is_what_stands_in_the_sweep_file() -> None:
    sweep = (ROOT / "sweeps" / "norm_vs_batchsize.yaml").read_text(encoding="utf-8")
    lines = [line.split("#")[0].rstrip() for line in sweep.splitlines()]
    place = -1
    for line in blocks("yaml")[0].splitlines():
        assert line in lines[place + 1 :], f"not in the sweep file, or in another order: {line}"
        place = lines.index(line, place + 1)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "sweeps/README.md"])
def test_links_lead_to_files_of_the_repository(page: str) -> None:
    file = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (file.parent / target).exists(), target


def test_commands_name_files_and_options_that_exist() -> None:
    text = "\n".join(blocks("sh")).replace("\\\n", " ")
    sweeps = re.findall(r"python -m orchestrator\.run (.*)", text)
    assert len(sweeps) >= 5
    for arguments in sweeps:
        assert (ROOT / _parse(shlex.split(arguments)).sweep).is_file()
    trainings = re.findall(r"-m detcore\.train (\S+)", text)
    assert len(trainings) == 2
    assert all((ROOT / config).is_file() for config in trainings)


def test_every_kind_of_component_is_in_the_sweeps_readme() -> None:
    text = (ROOT / "sweeps/README.md").read_text()
    section = text.split("## What can be varied")[1].split("\n## ")[0]
    unions = [schema.Detector, schema.Backbone, schema.Neck, schema.NormAct, schema.Anchors]
    unions += [schema.Matcher, schema.ClassLoss, schema.BoxLoss]
    kinds = {k for u in unions for member in get_args(u) for k in _kinds(member)}
    kinds |= {
        k
        for member in (schema.BalanceHook, schema.Stitch, schema.ReportStitch)
        for k in _kinds(member)
    }
    assert {kind for kind in kinds if f"`{kind}`" not in section} == set()


def _kinds(member: type) -> tuple[str, ...]:
    kinds: tuple[str, ...] = get_args(get_type_hints(member)["kind"])
    return kinds
