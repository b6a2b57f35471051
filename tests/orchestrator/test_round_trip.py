"""What must hold for any sweep: how it is written changes no id, and an edit adds or takes away
exactly its own cells."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.sweep.axes import text_of
from orchestrator.sweep.expand import expand
from orchestrator.sweep.identity import cell_id
from orchestrator.sweep.spec import load_sweep

Sweep = dict[str, Any]

PATHS = {
    "norm": ("model.neck.norm_act", ["bn", "gn", "evonorm_s0"]),
    "batch": ("train.batch_per_gpu", [1, 2, 4, 8]),
    "loss": ("model.box_loss", ["giou", "ciou", "huber"]),
    "flip": ("data.flip", [0.0, 0.25, 0.5]),
    "decay": ("optim.weight_decay", [0.0, 0.0001, 0.01]),
    "rate": (None, [1, 2, 3]),
}
GROUPS = {"path": "model.neck.norm_act.groups", "values": [8, 16], "when": "norm == 'gn'"}


def ids_of(folder: Path, sweep: Sweep | str) -> dict[str, str]:
    """The id of every cell by the levels that it has and its seed; the axes' order is left out."""
    file = folder / "sweep.yaml"
    text = sweep if isinstance(sweep, str) else yaml.safe_dump(sweep, sort_keys=False)
    file.write_text(text)
    return {
        " ".join(sorted(cell.label.split(" "))): cell_id(cell.config, "data")
        for cell in expand(load_sweep(file))
    }


@st.composite
def sweeps(draw: st.DrawFn) -> Sweep:
    """A sweep of two to six axes, of which some arms may lack one, with blocks of every kind."""
    names = draw(st.lists(st.sampled_from([*PATHS]), min_size=2, max_size=6, unique=True))
    axes: Sweep = {}
    for name in names:
        path, levels = PATHS[name]
        chosen = draw(st.lists(st.sampled_from(levels), min_size=2, max_size=3, unique=True))
        axes[name] = {"values": chosen} | ({"path": path} if path else {})
    if "norm" in axes and "gn" in axes["norm"]["values"] and draw(st.booleans()):
        axes["groups"] = GROUPS
    seeds = draw(st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True))
    sweep: Sweep = {"version": 1, "name": "any", "axes": axes, "seeds": seeds}
    if "rate" in axes:
        sweep["derive"] = {"lr": "0.01 * rate * workers", "half": "lr / 2"}
        sweep["set"] = {"optim.lr": "=half"}
        sweep["assert"] = ["half * 2 == lr"]
    if draw(st.booleans()):
        blocks = st.lists(_blocks(names, axes, seeds), min_size=1, max_size=3)
        sweep["design"] = draw(blocks)
    return sweep


def _blocks(names: list[str], axes: Sweep, seeds: list[int]) -> st.SearchStrategy[Sweep]:
    some = st.lists(st.sampled_from(names), min_size=1, unique=True)
    pairs = {name: axes[name]["values"][:2] for name in names}
    second = some.map(lambda chosen: {name: pairs[name][1] for name in chosen})
    kinds = [
        some.map(
            lambda chosen: {"factorial": [*chosen, *(["groups"] if "groups" in axes else [])]}
        ),
        some.map(lambda chosen: {"one_at_a_time": chosen}),
        second.map(lambda full: {"include": [full]}),
        second.map(
            lambda full: {"leave_one_out": {"full": full, "remove": {n: pairs[n][0] for n in full}}}
        ),
    ]
    if len(names) >= 3:
        kinds.append(st.just({"fractional": {"resolution": "III", "levels": pairs}}))
    own = st.lists(st.sampled_from(seeds), min_size=1, unique=True).map(lambda s: {"seeds": s})
    return st.builds(lambda block, more: block | more, st.one_of(kinds), st.just({}) | own)


def shuffled(draw: st.DrawFn, value: Any) -> Any:
    """The same with the keys of every mapping in another order."""
    if isinstance(value, dict):
        return {k: shuffled(draw, value[k]) for k in draw(st.permutations([*value]))}
    return [shuffled(draw, v) for v in value] if isinstance(value, list) else value


ANY = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
SOME = settings(ANY, max_examples=30)


@ANY
@given(sweeps(), st.data())
def test_how_a_sweep_is_written_changes_no_id(
    tmp_path: Path, sweep: Sweep, data: st.DataObject
) -> None:
    """Key order and with it the order of axes, comments, block style, the way a file is dumped."""
    # without a baseline it is the first level of every axis, whatever the order of the axes
    ids = ids_of(tmp_path, sweep)
    assert len(set(ids.values())) == len(ids) > 0
    assert ids_of(tmp_path, yaml.safe_dump(yaml.safe_load(yaml.safe_dump(sweep)))) == ids
    turned = shuffled(lambda strategy: data.draw(strategy), sweep)  # type: ignore[arg-type]
    text = yaml.safe_dump(turned, sort_keys=False, default_flow_style=data.draw(st.booleans()))
    commented = "".join(f"{line}  # a note\n\n# another\n" for line in text.splitlines())
    flow = text.startswith("{") and len(text.splitlines()) > 1
    assert ids_of(tmp_path, text if flow else commented) == ids


@SOME
@given(sweeps(), st.data())
def test_a_rule_takes_away_its_arm_only(tmp_path: Path, sweep: Sweep, data: st.DataObject) -> None:
    ids_of(tmp_path, sweep)
    read = load_sweep(tmp_path / "sweep.yaml")
    cells = expand(read)
    others = [c for c in cells if c.axes != read.baseline]
    if len({c.arm_label for c in cells}) < 2 or not others:
        return
    arm = data.draw(st.sampled_from(others))
    rule = " and ".join(f"{name} == {level!r}" for name, level in arm.axes.items())
    before = {cell_id(c.config, "data"): c.arm_label for c in cells}
    left = set(ids_of(tmp_path, {**sweep, "exclude": [{"if": rule, "why": "enough"}]}).values())
    assert left == {id for id, label in before.items() if label != arm.arm_label}


# ---------------------------------------------------------------- edits of a sweep


@SOME
@given(sweeps(), st.data())
def test_a_level_more_adds_its_cells_and_a_level_less_takes_them_away(
    tmp_path: Path, sweep: Sweep, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from([n for n in sweep["axes"] if n != "groups"]))
    axis = sweep["axes"][name]
    unused = [v for v in PATHS[name][1] if v not in axis["values"]]
    if not unused:
        return
    more = {
        **sweep,
        "axes": {**sweep["axes"], name: {**axis, "values": axis["values"] + unused[:1]}},
    }
    small, large = ids_of(tmp_path, sweep), ids_of(tmp_path, more)
    added = {label for label in large if f"{name}={text_of(unused[0])}" in label.split(" ")}
    assert {label: id for label, id in large.items() if label not in added} == small
    assert not {large[label] for label in added} & set(small.values())


@SOME
@given(sweeps(), st.integers(0, 8))
def test_resources_and_names_add_nothing(tmp_path: Path, sweep: Sweep, gpus: int) -> None:
    other = {
        **sweep,
        "name": "other",
        "question": "what else?",
        "resources": {"gpus_per_worker": gpus, "cpus_per_worker": "1 + seed"},
        "failure": {"crash_retries": 7},
    }
    assert ids_of(tmp_path, other) == ids_of(tmp_path, sweep)


@pytest.mark.parametrize("name", ["norm", "batch", "loss"])
def test_exactly_k_new_cells(tmp_path: Path, name: str) -> None:
    """Of a full factorial one level is the cells of all other axes, times the seeds."""
    sizes = {"norm": 2, "batch": 3, "loss": 2}
    axes = {n: {"path": PATHS[n][0], "values": PATHS[n][1][:size]} for n, size in sizes.items()}
    sweep: Sweep = {"version": 1, "name": "t", "axes": axes, "seeds": [0, 1, 2]}
    before = set(ids_of(tmp_path, sweep).values())
    assert set(ids_of(tmp_path, sweep).values()) == before
    axes[name]["values"] = PATHS[name][1][: sizes[name] + 1]
    after = set(ids_of(tmp_path, sweep).values())
    k = 3 * math.prod(size for other, size in sizes.items() if other != name)
    assert before < after
    assert len(after - before) == k
    axes[name]["values"] = PATHS[name][1][: sizes[name] - 1]
    assert len(before - set(ids_of(tmp_path, sweep).values())) == k
