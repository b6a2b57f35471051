"""The key `tune`: which cells it comes to, by hand and as properties, and every mistake in it."""

from __future__ import annotations

import copy
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from detcore.config import identity_dict
from orchestrator.sweep.expand import Cell, Expansion, expansion
from orchestrator.sweep.identity import cell_id
from orchestrator.sweep.spec import SweepError, load_sweep

SWEEP: dict[str, Any] = {
    "version": 1,
    "name": "small",
    "axes": {
        "norm": {"path": "model.neck.norm_act", "values": ["bn", "gn"]},
        "groups": {
            "path": "model.neck.norm_act.groups",
            "values": [8, 16],
            "when": "norm == 'gn'",
        },
        "batch": {"path": "train.batch_per_gpu", "values": [1, 2]},
        "flip": {"path": "data.flip", "values": [0.5, 0.0]},
    },
    "baseline": {"norm": "bn", "batch": 2, "flip": 0.5},
    "derive": {"lr": "0.01 * batch * lr_mult"},
    "set": {"optim.lr": "=lr", "train.steps": 40},
    "design": [{"factorial": ["norm", "groups", "batch"]}, {"one_at_a_time": ["flip"]}],
    "exclude": [{"if": "groups == 16 and batch == 1", "why": "too small"}],
    "seeds": [0, 1],
    "tune": {
        "nuisance": {"lr_mult": [2, 0.5, 1]},
        "per": ["batch", "norm", "groups"],
        "share": 0.25,
    },
}


def with_changes(changes: dict[str, Any]) -> dict[str, Any]:
    """SWEEP with `a.b` set, or taken away by ..."""
    data = copy.deepcopy(SWEEP)
    for path, value in changes.items():
        *above, last = path.split("/")
        here = data
        for key in above:
            here = here.setdefault(key, {})
        if value is ...:
            del here[last]
        else:
            here[last] = value
    return data


def expanded(folder: Path, changes: dict[str, Any] | None = None, **options: Any) -> Expansion:
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(with_changes(changes or {}), sort_keys=False))
    return expansion(load_sweep(file, **options))


def tried(found: Expansion) -> dict[tuple[Any, ...], list[Cell]]:
    """The tuning cells by norm, groups and batch."""
    groups = defaultdict(list)
    for cell in found.tuning:
        groups[cell.axes["norm"], cell.axes["groups"], cell.axes["batch"]].append(cell)
    return dict(groups)


def test_a_sweep_worked_by_hand(tmp_path: Path) -> None:
    """bn at two batches, gn with 8 groups at two and with 16 at one (the other is excluded): five
    groups of three, at the baseline's flip, a quarter of 40 steps, lr = 0.01 x batch x factor."""
    found = expanded(tmp_path)
    assert {c.arm_label for c in found.cells} == {
        "norm=bn groups=- batch=1 flip=0.5",
        "norm=bn groups=- batch=2 flip=0.5",
        "norm=gn groups=8 batch=1 flip=0.5",
        "norm=gn groups=8 batch=2 flip=0.5",
        "norm=gn groups=16 batch=2 flip=0.5",
        "norm=bn groups=- batch=2 flip=0.0",
    }
    groups = tried(found)
    assert {group: [c.config.optim.lr for c in cells] for group, cells in groups.items()} == {
        ("bn", "-", 1): [0.005, 0.01, 0.02],
        ("bn", "-", 2): [0.01, 0.02, 0.04],
        ("gn", 8, 1): [0.005, 0.01, 0.02],
        ("gn", 8, 2): [0.01, 0.02, 0.04],
        ("gn", 16, 2): [0.01, 0.02, 0.04],
    }
    for cell in found.tuning:
        config = cell.config
        assert (cell.seed, config.seed, config.train.steps) == (1000, 1000, 10)
        assert (config.data.holdout, config.data.flip) == (0.1, 0.5)
        assert (cell.role, cell.ref, cell.blocks) == ("tune", None, ())
    one = groups["gn", 8, 1][0]
    assert one.label == "tune norm=gn groups=8 batch=1 lr_mult=0.5 seed=1000"
    assert one.axes == {"norm": "gn", "groups": 8, "batch": 1, "flip": 0.5, "lr_mult": 0.5}


def test_the_cells_of_the_report_have_the_default_until_they_are_told(tmp_path: Path) -> None:
    """The default, 1 as it is in the list, leaves the sweep as it is without `tune`."""
    found = expanded(tmp_path)
    plain = {"tune": ..., "derive/lr": "0.01 * batch"}
    (tmp_path / "plain").mkdir()
    without = expanded(tmp_path / "plain", plain)
    assert without.tuning == []
    assert [c.config for c in found.cells] == [c.config for c in without.cells]
    assert {c.role for c in found.cells} == {"report"}
    sweep = load_sweep(tmp_path / "sweep.yaml")
    told = expansion(sweep, {("gn", "8", "1"): {"lr_mult": 2}})
    lr = {c.arm_label: c.config.optim.lr for c in told.cells if c.axes["flip"] == 0.5}
    assert lr == {
        "norm=bn groups=- batch=1 flip=0.5": 0.01,
        "norm=bn groups=- batch=2 flip=0.5": 0.02,
        "norm=gn groups=8 batch=1 flip=0.5": 0.02,
        "norm=gn groups=8 batch=2 flip=0.5": 0.02,
        "norm=gn groups=16 batch=2 flip=0.5": 0.02,
    }


def test_arms_that_agree_in_per_share_a_tuning(tmp_path: Path) -> None:
    found = expanded(tmp_path, {"tune/per": ["norm"], "tune/nuisance": {"lr_mult": [1, 3]}})
    assert [c.label for c in found.tuning] == [
        "tune norm=bn lr_mult=1 seed=1000",
        "tune norm=bn lr_mult=3 seed=1000",
        "tune norm=gn lr_mult=1 seed=1000",
        "tune norm=gn lr_mult=3 seed=1000",
    ]
    # gn has the group count of the base config, as `baseline` names none
    assert {(c.axes["batch"], c.config.model.neck.norm_act.kind) for c in found.tuning} == {
        (2, "bn"),
        (2, "gn"),
    }


def test_several_parameters_are_tuned_together(tmp_path: Path) -> None:
    changes = {
        "tune/nuisance": {"lr_mult": [1, 2], "decay": [0.0001, 0.0005, 0.001]},
        "tune/default": {"decay": 0.0005},
        "set/optim.weight_decay": "=decay",
    }
    found = expanded(tmp_path, changes)
    cells = tried(found)["bn", "-", 2]
    assert {(c.config.optim.lr, c.config.optim.weight_decay) for c in cells} == {
        (lr, decay) for lr in (0.02, 0.04) for decay in (0.0001, 0.0005, 0.001)
    }
    assert {c.config.optim.weight_decay for c in found.cells} == {0.0005}


def test_a_wider_design_leaves_the_tuning_as_it_was(tmp_path: Path) -> None:
    """The arm that is trained for a group does not depend on which others there are."""
    before = {cell_id(c.config, "data") for c in expanded(tmp_path).tuning}
    wider = {"design": [{"factorial": ["norm", "groups", "batch", "flip"]}], "seeds": [5, 6, 7]}
    assert {cell_id(c.config, "data") for c in expanded(tmp_path, wider).tuning} == before
    more = expanded(tmp_path, {"tune/nuisance": {"lr_mult": [0.25, 0.5, 1, 2]}})
    after = {cell_id(c.config, "data") for c in more.tuning}
    assert before < after
    assert len(after) == 20


def test_steps_of_a_tuning_cell(tmp_path: Path) -> None:
    by_arm = {"set/train.steps": "=80 // batch"}
    found = expanded(tmp_path, by_arm)
    assert {(c.axes["batch"], c.config.train.steps) for c in found.tuning} == {(1, 20), (2, 10)}
    fixed = {**by_arm, "tune/share": ..., "tune/steps": 7}
    assert {c.config.train.steps for c in expanded(tmp_path, fixed).tuning} == {7}
    tiny = expanded(tmp_path, {"set/train.steps": 1, "tune/share": 0.01})
    assert {c.config.train.steps for c in tiny.tuning} == {1}


@settings(deadline=None, max_examples=40)
@given(
    per=st.lists(st.sampled_from(["norm", "batch", "flip"]), min_size=1, unique=True),
    values=st.lists(st.sampled_from([0.1, 0.25, 0.5, 1, 3, 10]), min_size=2, unique=True),
    seeds=st.lists(st.integers(0, 999), min_size=1, max_size=4, unique=True),
    holdout=st.floats(0.01, 0.99),
)
def test_budgets_are_equal_and_seeds_and_images_apart(
    tmp_path_factory: pytest.TempPathFactory,
    per: list[str],
    values: list[float],
    seeds: list[int],
    holdout: float,
) -> None:
    found = expanded(
        tmp_path_factory.mktemp("sweep"),
        {
            "tune/per": per,
            "tune/nuisance": {"lr_mult": values},
            "tune/default": {"lr_mult": values[0]},
            "tune/holdout": holdout,
            "seeds": seeds,
        },
    )
    wanted = {tuple(c.axes[name] for name in per) for c in found.cells}
    budgets = defaultdict(list)
    for cell in found.tuning:
        group = tuple(cell.axes[name] for name in per)
        budgets[group].append((cell.tuned["lr_mult"], cell.config.train.steps))
    assert budgets.keys() == wanted
    assert {tuple(sorted(tries)) for tries in budgets.values()} == {
        tuple((v, 10) for v in sorted(values))
    }
    assert {c.seed for c in found.cells} == set(seeds)
    assert not {c.seed for c in found.tuning} & set(seeds)
    assert {c.config.data.holdout for c in found.cells} == {0.0}
    assert {c.config.data.holdout for c in found.tuning} == {holdout}
    # but for seed, budget, images and what is tuned, a tuning cell is a cell of its arm
    by_arm = {tuple(c.axes.values()): identity_dict(c.config) for c in found.cells}
    for cell in found.tuning:
        arm = by_arm.get(tuple(v for name, v in cell.axes.items() if name != "lr_mult"))
        mine = identity_dict(cell.config)
        if arm is not None:
            differing = {key for key in mine if mine[key] != arm[key]}
            assert differing <= {"seed", "train", "data", "optim"}
            assert mine["data"] == {**arm["data"], "holdout": holdout}
            assert mine["train"] == {**arm["train"], "steps": 10}


# ---------------------------------------------------------------- mistakes

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"tune": [1]}, "tune: must be a mapping; choices: nuisance, default, per"),
    ({"tune/share_": 1}, "tune.share_: unknown key 'share_'; did you mean 'share'?"),
    ({"tune/nuisance": ...}, "tune.nuisance: is missing; it must map names to values"),
    ({"tune/nuisance": {}}, "tune.nuisance: must map names to values"),
    ({"tune/nuisance": {"lr_mult": []}}, "lr_mult: must be a list of two values or more, is []"),
    ({"tune/nuisance": {"lr_mult": 2}}, "lr_mult: must be a list of two values or more, is 2"),
    ({"tune/nuisance": {"lr_mult": [1]}}, "lr_mult: one value tunes nothing, must be a list"),
    ({"tune/nuisance": {"lr_mult": [1, 2, 1.0]}}, "lr_mult.2: the value 1.0 is given twice"),
    ({"tune/nuisance": {"lr_mult": [1, "a"]}}, "lr_mult.1: must be a number, is 'a'"),
    ({"tune/nuisance": {"lr_mult": [1, "1e-4"]}}, "YAML reads 1e-4 as text, write 1.0e-04"),
    ({"tune/nuisance": {"lr_mult": [1, True]}}, "lr_mult.1: must be a number, is True"),
    ({"tune/nuisance": {"lr_mult": [1, float("inf")]}}, "lr_mult.1: must be a number, is inf"),
    ({"tune/nuisance": {"batch": [1, 2]}}, "the name 'batch' is taken by axis batch"),
    ({"tune/nuisance": {"lr": [1, 2]}}, "the name 'lr' is taken by a line of derive"),
    ({"tune/nuisance": {"seed": [1, 2]}}, "the name 'seed' is taken"),
    ({"tune/nuisance": {"a b": [1, 2]}}, "'a b' is not a name"),
    ({"tune/nuisance": {"lr_mul": [1, 2]}}, "derive.lr: unknown name 'lr_mult'"),
    (
        {"tune/nuisance": {"lr_mult": [1, 2], "decay": [1, 2]}},
        "tune.nuisance.decay: no setting of `set` depends on decay; write for example",
    ),
    (
        {"set/optim.lr": 0.1, "assert": ["lr > 0"]},
        "tune.nuisance.lr_mult: no setting of `set` depends on lr_mult",
    ),
    ({"tune/nuisance": {"lr_mult": [2, 3]}}, "tune.default.lr_mult: is missing: the value of"),
    ({"tune/default": {"lr_mult": 3}}, "tune.default.lr_mult: 3 is not in its list; choices: 0.5,"),
    ({"tune/default": {"lr_mul": 1}}, "tune.default.lr_mul: is not tuned; did you mean 'lr_mult'?"),
    ({"tune/default": 1}, "tune.default: must map names to values, as {lr_mult: 0.5}, is 1"),
    ({"tune/per": ...}, "tune.per: is missing; arms that differ in these are tuned apart"),
    ({"tune/per": []}, "tune.per: must be a list of axes, is []"),
    ({"tune/per": ["nrm"]}, "tune.per.0: unknown axis 'nrm'; did you mean 'norm'?"),
    ({"tune/per": ["norm", "norm"]}, "tune.per.1: axis norm is given twice"),
    (
        {"tune/per": ["groups"]},
        "tune.per: with the other axes at the baseline groups is - where the arms that share a "
        "tuning have 8: add the axes that the `when` of groups reads",
    ),
    (
        {
            "exclude": [{"if": "norm == 'gn' and flip == 0.5", "why": "x"}],
            "design": [{"factorial": ["norm", "flip"]}],
        },
        "tune.per: the arm norm=gn groups=base batch=2 flip=0.5 is left out by the rule",
    ),
    ({"tune/seed": 1}, "tune.seed: 1 is one of the sweep's seeds"),
    ({"seeds": [999, 1000]}, "tune.seed: 1000 is one of the sweep's seeds"),
    ({"tune/seed": -1}, "tune.seed: must be a whole number of at least 0, is -1"),
    ({"tune/steps": 5}, "tune.share: give `steps` or `share`, not both"),
    ({"tune/share": ..., "tune/steps": 0}, "tune.steps: must be a whole number of at least 1"),
    ({"tune/share": 0}, "tune.share: must be a share above 0 and at most 1, is 0"),
    ({"tune/holdout": 1}, "tune.holdout: must be a share above 0 and below 1, is 1"),
    ({"tune/holdout": True}, "tune.holdout: must be a number, is True"),
    ({"tune/select_on": "AP55"}, "tune.select_on: unknown metric 'AP55'; did you mean 'AP75'?"),
    (
        {"set/schedule.warmup_steps": 20},
        "tune.share: schedule.warmup_steps (20) must be smaller than train.steps (10) (arm norm=bn",
    ),
    (
        {"set/data.holdout": 0.2},
        "tune.holdout: the cells of the sweep are scored on held-out training images themselves",
    ),
    (  # neither lr_mult and what is computed from it, nor the seed
        {"exclude": [{"if": "bach > 1", "why": "too large"}]},
        "did you mean 'batch'? choices: batch, flip, groups, norm, workers",
    ),
    (
        {"exclude": [{"if": "lr > 0.03", "why": "too large"}]},
        "exclude.0.if: depends on lr_mult, which is tuned; which arms there are must not",
    ),
    (
        {"resources": {"workers": "2 if lr_mult > 1 else 1"}},
        "resources.workers: depends on lr_mult, which is tuned; what a cell reserves must not",
    ),
    (
        {"resources": {"cpus_per_worker": "lr"}},
        "resources.cpus_per_worker: depends on lr_mult, which is tuned",
    ),
    (
        {"derive/lr": "min(0.01 * lr_mult, 0.01)"},
        "tune.nuisance: 'tune norm=bn groups=- batch=1 lr_mult=1' and 'tune norm=bn groups=- "
        "batch=1 lr_mult=2' are the same run: there is nothing to choose",
    ),
    (
        {
            "axes/rate": {"values": [1, 2]},
            "baseline/rate": 1,
            "tune/per": ["rate"],
            "derive/lr": "0.01 * rate * lr_mult",
            "design": [{"factorial": ["rate"]}],
        },
        "tune.per: 'tune rate=1 lr_mult=1' and 'tune rate=2 lr_mult=0.5' are the same run: tuned "
        "apart, the levels of rate would not differ; take it out of `per`",
    ),
]


@pytest.mark.parametrize(("changes", "said"), MISTAKES, ids=[said[:60] for _, said in MISTAKES])
def test_a_mistake_is_one_line_that_names_its_key(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    if any(path.startswith("axes/") or "exclude" in path for path in changes):
        changes = {"exclude": [], **changes}
    with pytest.raises(SweepError) as caught:
        expanded(tmp_path, changes)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'sweep.yaml'}:")


def test_a_setting_that_the_command_line_replaces_is_read_by_nobody(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="no setting of `set` depends on lr_mult"):
        expanded(tmp_path, overrides=["optim.lr=0.1"])


def test_the_command_line_changes_the_tuning(tmp_path: Path) -> None:
    found = expanded(tmp_path, overrides=["tune.nuisance.lr_mult=[1,1e1]", "tune.seed=7"])
    assert {c.tuned["lr_mult"] for c in found.tuning} == {1, 10}
    assert {c.seed for c in found.tuning} == {7}
