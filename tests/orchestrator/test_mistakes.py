"""Mistakes in sweep files and arguments: one line with the place, the problem and the way out.

Each row changes one place of a sweep that is right; `line` is where the error must point.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.sweep.expand import expand
from orchestrator.sweep.spec import SweepError, load_sweep

GOOD = """\
version: 1
name: small
question: "is it?"
base: base.yaml
axes:
  norm: {path: model.neck.norm_act, values: [bn, gn]}
  lr_mult: {values: [1, 2]}
  batch:
    path: train.batch_per_gpu
    values:
      small: 1
      large: 4
baseline: {norm: bn, lr_mult: 1, batch: large}
derive:
  lr: 0.01 * lr_mult
  half: lr / 2
set:
  optim.lr: =lr
  optim.weight_decay: 0.001
design: [{factorial: [norm, lr_mult, batch]}]
seeds: [0, 1]
metric: {name: mAP, goal: max}
resources: {workers: 2}
failure: {crash_retries: 1}
profiles:
  quick: {seeds: [0]}
"""
BASE = """\
optim:
  momentum: 0.8
train:
  steps: 100
"""


def message(folder: Path, text: str, **options: object) -> str:
    """The error for a sweep file with this text, without the folder's name."""
    (folder / "base.yaml").write_text(BASE)
    file = folder / "sweep.yaml"
    file.write_text(text)
    with pytest.raises(SweepError) as caught:
        expand(load_sweep(file, **options))  # type: ignore[arg-type]
    found = str(caught.value).replace(f"{folder}/", "")
    assert "\n" not in found
    return found


def test_the_sweep_is_right_before_it_is_changed(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "sweep.yaml").write_text(GOOD)
    assert len(expand(load_sweep(tmp_path / "sweep.yaml"))) == 16


NORM = "  norm: {path: model.neck.norm_act, values: [bn, gn]}"
SWAPS = [
    # top of the file
    ("version: 1\n", "", 1, "version: is missing; write version: 1"),
    ("version: 1", "version: 2", 1, "unknown version 2; write version: 1"),
    ("version: 1", "version: true", 1, "unknown version True"),
    ("name: small\n", "", 1, "name: is missing"),
    ("name: small", "name: a b/c", 2, "must be letters, digits, _ - and . (at most 100)"),
    ("name: small", "name: ../x", 2, "must be letters"),
    ("name: small", "name: 2024", 2, "must be letters"),
    ('question: "is it?"', "question: [1]", 3, "must be text, is [1]"),
    (
        "seeds: [0, 1]",
        "seads: [0, 1]",
        21,
        "unknown key 'seads'; did you mean 'seeds'? choices: version",
    ),
    # YAML
    ("  quick:", "\tquick:", 26, "a tab is used for indentation"),
    ("seeds: [0, 1]", "name: twice", 21, "key 'name' is given twice, first in line 2"),
    ("seeds: [0, 1]", "seeds: [0, 1", 22, "is not valid YAML"),
    ("seeds: [0, 1]", "set: {}", 21, "key 'set' is given twice, first in line 17"),
    # base
    ("base: base.yaml", "base: bose.yaml", 4, "no such file: bose.yaml; did you mean 'base.yaml'?"),
    ("base: base.yaml", "base: 3", 4, "base: must be the path of a config file, is 3"),
    # axes
    (
        NORM,
        "  norm: {path: model.neck.norm_act, valus: [bn]}",
        6,
        "unknown key 'valus'; did you mean 'values'?",
    ),
    (NORM, "  norm: {path: model.nck.norm_act, values: [bn]}", 6, "did you mean 'neck'?"),
    (NORM, "  norm: {path: seed, values: [1]}", 6, "written by `seeds`"),
    (NORM, "  norm: {path: train.workers, values: [1]}", 6, "use resources.workers"),
    (NORM, "  norm: {path: model.neck.norm_act, values: []}", 6, "at least one level"),
    (NORM, "  norm: {path: model.neck.norm_act, values: bn}", 6, "must be a list or a mapping"),
    (NORM, "  norm: {path: model.neck.norm_act}", 6, "must be a list or a mapping"),
    (NORM, "  norm: [bn, gn]", 6, "must be a mapping with `values`"),
    (NORM, "  no-norm: {path: model.neck.norm_act, values: [bn]}", 6, "is not a name"),
    (NORM, "  seed: {path: model.neck.norm_act, values: [bn]}", 6, "'seed' is taken"),
    ("[bn, gn]}", "[bn, gn, bn]}", 6, "level 'bn' is given twice"),
    ("[bn, gn]}", "[bn, off]}", 6, "level 'false'|unknown kind False|put the word in quotes"),
    ("[bn, gn]}", "[bn, [gn]]}", 6, "needs a label"),
    ("[bn, gn]}", "[bn, null]}", 6, "needs a label"),
    (
        "[bn, gn]}",
        "\n    [bn,\n    gnn]}",
        8,
        "level 'gnn'|model.neck.norm_act.kind: unknown kind 'gnn'; did you mean 'gn'? "
        "choices: bn, sync_bn, frozen_bn, gn, evonorm_s0, spectral, switchable, none",
    ),
    ("[bn, gn]}", "{bn: bn, gn: {kind: gn, groups: 0}}}", 6, "groups must be at least 1, is 0"),
    ("[bn, gn]}", "{bn: bn, gn: {kind: gn, grops: 2}}}", 6, "did you mean 'groups'?"),
    ("[1, 2]}", "[1, 1e-4]}", 7, "YAML reads 1e-4 as text, write 1.0e-04 without quotes"),
    ("[1, 2]}", "[1, 1.0]}", 7, "level '1.0' is given twice"),
    ("[1, 2]}", "{1: 3, 2: 4}}", 7, "the axis has no path"),
    ("[1, 2]}", "{1: {a: 1}, 2: {b: 1}}}", 7, "['a'] in the first, ['b'] here"),
    ("[1, 2]}", "{1: {lr: 1}, 2: {lr: 2}}}", 15, "the name 'lr' is taken by axis lr_mult"),
    ("large: 4", "large: many", 12, "level 'large'|must be a whole number, is 'many'"),
    ("large: 4", "large: 0", 12, "level 'large'|batch_per_gpu must be at least 1, is 0"),
    ("large: 4", "large: 1.5", 12, "must be a whole number, is 1.5"),
    (
        "path: train.batch_per_gpu",
        "path: optim.momentum",
        11,
        "level 'small'|momentum must be in [0, 1), is 1.0",
    ),
    ("path: train.batch_per_gpu", "path: optim.lr", 18, "axis batch and by `set`"),
    ("path: train.batch_per_gpu", "path: model.neck.norm_act", 11, "axis norm and by axis batch"),
    ("0.01 * lr_mult", "0.01", 7, "axis lr_mult, levels '1' and '2'|the same run"),
    ("path: train.batch_per_gpu", "path: runtime.threads", 8, "axis batch, levels|`runtime`"),
    # baseline, design
    ("{norm: bn, lr_mult", "{norm: bnn, lr_mult", 13, "unknown level 'bnn'; did you mean 'bn'?"),
    ("{norm: bn, lr_mult", "{lr_mult", 13, "axis norm is missing; choices: bn, gn"),
    ("{norm: bn, lr_mult", "{nrm: bn, lr_mult", 13, "unknown axis 'nrm'; did you mean 'norm'?"),
    ("baseline: {norm", "baseline: #{norm", 13, "must map every axis to a level, is None"),
    ("[norm, lr_mult, batch]}", "[norm, lr_malt]}", 20, "unknown axis 'lr_malt'|'lr_mult'?"),
    ("[norm, lr_mult, batch]}", "[norm, norm]}", 20, "axis norm is given twice"),
    ("{factorial: [", "{factorail: [", 20, "unknown key 'factorail'; did you mean 'factorial'?"),
    ("{factorial: [", "{fractional: [", 20, "must be {resolution: V, levels: {axis: [low, high]"),
    # expressions
    ("0.01 * lr_mult", "0.01 * lr_malt", 15, "unknown name 'lr_malt'|did you mean 'lr_mult'?"),
    ("0.01 * lr_mult", "0.01 *", 15, "derive.lr: is not an expression, at column"),
    ("0.01 * lr_mult", "0.01 / (lr_mult - 1)", 15, "division by zero|norm=bn lr_mult=1"),
    ("0.01 * lr_mult", "half", 15, "needs its own value: lr -> half -> lr"),
    ("0.01 * lr_mult", "0.01 * lr_mult * norm", 15, "needs numbers, got the text 'bn'"),
    ("0.01 * lr_mult", "[1]", 15, "must be a number or an expression"),
    ("half: lr / 2", "workers: 3", 16, "written under resources.workers"),
    ("half: lr / 2", "norm: 3", 16, "the name 'norm' is taken by axis norm"),
    ("half: lr / 2", "sqrt: 3", 16, "the name 'sqrt' is taken"),
    # set
    ("optim.lr: =lr", "optim.lr: lr", 18, "must be a number, is 'lr'|write =lr"),
    ("optim.lr: =lr", "optim.lr: =lrr", 18, "unknown name 'lrr' in 'lrr'|did you mean 'lr'?"),
    ("optim.lr: =lr", "optim.lr: =-lr", 18, "lr must be positive, is -0.01"),
    ("optim.lr: =lr", "optim.lrr: =lr", 18, "no config has 'optim.lrr'|did you mean 'lr'?"),
    ("optim.lr: =lr", "train.batch_per_gpu: 2", 18, "axis batch and by `set`"),
    ("decay: 0.001", "decay: 1e-4", 19, "YAML reads 1e-4 as text, write 1.0e-04"),
    ("decay: 0.001", "decay: .inf", 19, "must be a finite number"),
    ("optim.weight_decay: 0.001", "train.steps: 0", 19, "steps must be at least 1, is 0"),
    ("optim.weight_decay: 0.001", "train.workers: 2", 19, "use resources.workers"),
    (
        "optim.weight_decay: 0.001",
        "schedule.warmup_steps: 100",
        19,
        "schedule.warmup_steps (100) must be smaller than train.steps (100)",
    ),
    # seeds, metric, resources, failure
    ("seeds: [0, 1]", "seeds: []", 21, "seeds: must be a list of whole numbers, is []"),
    ("seeds: [0, 1]", "seeds: 3", 21, "must be a list of whole numbers, is 3"),
    ("seeds: [0, 1]", "seeds: [0, 0]", 21, "seed 0 is given twice"),
    ("seeds: [0, 1]", "seeds: [0, -1]", 21, "must not be negative, is -1"),
    ("seeds: [0, 1]", "seeds: [0, one]", 21, "must be a whole number, is 'one'"),
    ("seeds: [0, 1]", "seeds: [0, true]", 21, "must be a whole number, is True"),
    ("seeds: [0, 1]", "seeds: {count: 2}", 21, "unknown key 'count'; choices: list"),
    ("name: mAP", "name: map50", 22, "unknown metric 'map50'|choices: mAP, AP50"),
    ("goal: max", "goal: maxi", 22, "unknown value 'maxi'; did you mean 'max'? choices: max, min"),
    ("{workers: 2}", "{workers: 0}", 23, "resources.workers: must be at least 1, is 0"),
    ("{workers: 2}", "{workers: 3 / 2}", 23, "must be a whole number, is 1.5"),
    ("{workers: 2}", "{workers: lr_mult - 1}", 23, "must be at least 1, is 0 (arm norm=bn lr_m"),
    ("{workers: 2}", "{workers: norm}", 23, "must be a whole number, is 'bn'"),
    ("{workers: 2}", "{worker: 2}", 23, "unknown key 'worker'; did you mean 'workers'?"),
    ("{workers: 2}", "{gpus_per_worker: -1}", 23, "must be at least 0, is -1"),
    ("crash_retries: 1", "crash_retry: 1", 24, "did you mean 'crash_retries'?"),
    ("crash_retries: 1", "crash_retries: -1", 24, "failure.crash_retries: must not be negative"),
    ("crash_retries: 1", "crash_retries: 1.5", 24, "must be a whole number, is 1.5"),
    ("crash_retries: 1", "hang_timeout_s: 0", 24, "failure.hang_timeout_s: must be positive, is 0"),
    ("crash_retries: 1", "hang_timeout_s: 1e3", 24, "YAML reads 1e3 as text, write 1.0e+03"),
    ("crash_retries: 1", "max_hours: -2", 24, "failure.max_hours: must be positive, is -2"),
    ("{crash_retries: 1}", "2", 24, "failure: must be a mapping|crash_retries, retries|is 2"),
    ("crash_retries: 1", "retries: 2", 24, "failure.retries: must be a mapping|oom, is 2"),
    ("crash_retries: 1", "retries: {crash: 1}", 24, "'crash'; did you mean 'crashed'? choices: l"),
    (
        "crash_retries: 1",
        "retries: {diverged: 1}",
        24,
        "retries.diverged: is a result, not a fault",
    ),
    ("crash_retries: 1", "retries: {lost: forever}", 24, "whole number or unlimited, is 'forever'"),
    ("crash_retries: 1", "retries: {crashed: unlimited}", 24, "whole number, is 'unlimited'"),
    ("crash_retries: 1", "retries: {oom: -1}", 24, "failure.retries.oom: must not be negative"),
    ("crash_retries: 1", "retries: {timeout: true}", 24, "must be a whole number, is True"),
    (
        "crash_retries: 1",
        "crash_retries: 1, retries: {crashed: 3}",
        24,
        "failure.retries.crashed: is said by failure.crash_retries as well; leave one out",
    ),
    ("crash_retries: 1", "abort_after: 0", 24, "failure.abort_after: must be at least 1, is 0"),
    ("crash_retries: 1", "abort_after: off", 24, "must be a whole number or never, is False"),
    # budget
    (
        "failure: {",
        "budget: {gpu_hour: 3}\nfailure: {",
        24,
        "unknown key 'gpu_hour'; did you mean 'gpu_hours'?|max_concurrent, max_gpus",
    ),
    (
        "failure: {",
        "budget: {gpu_hours: 0}\nfailure: {",
        24,
        "budget.gpu_hours: gpu_hours must be positive, is 0",
    ),
    (
        "failure: {",
        "budget: {gpu_hours: lots}\nfailure: {",
        24,
        "budget.gpu_hours: must be a number, is 'lots'",
    ),
    ("failure: {", "budget: {gpu_hours: .inf}\nfailure: {", 24, "must be a finite number, is inf"),
    ("failure: {", "budget: {gpu_hours: 1e4}\nfailure: {", 24, "YAML reads 1e4 as text"),
    ("failure: {", "budget: {max_gpus: 0}\nfailure: {", 24, "max_gpus must be at least 1, is 0"),
    ("failure: {", "budget: {max_gpus: 2.5}\nfailure: {", 24, "must be a whole number, is 2.5"),
    (
        "failure: {",
        "budget: {max_concurrent: -1}\nfailure: {",
        24,
        "max_concurrent must be at least 1",
    ),
    (
        "failure: {",
        "budget: {confirm_gpu_hours: -1}\nfailure: {",
        24,
        "confirm_gpu_hours must not be negative",
    ),
    ("failure: {", "budget: {gpu_hours: true}\nfailure: {", 24, "must be a number, is True"),
    ("failure: {", "budget: 2500\nfailure: {", 24, "budget: must be a mapping, is 2500"),
    # profiles are checked even when none is chosen
    ("quick: {seeds: [0]}", "quick: {name: x}", 26, "'name' cannot stand in a profile"),
    ("quick: {seeds: [0]}", "quick: {seads: [0]}", 26, "did you mean 'seeds'?"),
    ("quick: {seeds: [0]}", "quick: 3", 26, "must be a mapping, is 3"),
]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"), SWAPS, ids=[f"{s[2]}-{s[1].strip()[:50]}" for s in SWAPS]
)
def test_mistake_in_the_file(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert GOOD.count(old) == 1
    found = message(tmp_path, GOOD.replace(old, new))
    assert found.startswith(f"sweep.yaml:{line}: "), found
    for part in words.split("|"):
        assert part in found, found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "sweep.yaml: is empty"),
        ("# only a comment\n", "sweep.yaml: is empty"),
        ("- 1\n", "sweep.yaml:1: must be a mapping (key: value), is a list"),
        ("just text", "sweep.yaml:1: must be a mapping (key: value), is a str"),
        ("name: 2026-02-30", "sweep.yaml: a value cannot be read: day is out of range"),
        ("a: &x [*x]", "sweep.yaml: is nested too deeply"),
        ("version: 1\nname: x\n", "axes: at least one axis is needed"),
        ("version: 1\nname: x\naxes: {}", "sweep.yaml:3: axes: at least one axis is needed"),
        ("version: 1\nname: x\naxes: !!python/object:os.system {}", "sweep.yaml:3: "),
    ],
)
def test_mistake_in_the_whole_file(tmp_path: Path, text: str, words: str) -> None:
    assert words in message(tmp_path, text)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"absent\.yaml: no such file"):
        load_sweep(tmp_path / "absent.yaml")
    with pytest.raises(SweepError, match="is a folder, a YAML file is needed"):
        load_sweep(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("momentum: 0.8", "momentun: 0.8", 2, "optim.momentun: unknown key|'momentum'?"),
        ("momentum: 0.8", "momentum: 1.5", 2, "momentum must be in [0, 1), is 1.5"),
        ("momentum: 0.8", "lr: 1e-4", 2, "optim.lr: must be a number|YAML reads 1e-4 as text"),
        ("steps: 100", "steps: ten", 4, "train.steps: must be a whole number, is 'ten'"),
        ("steps: 100", "steps: 0", 4, "steps must be at least 1, is 0"),
        ("train:", "trian:", 3, "unknown key 'trian'; did you mean 'train'?"),
        ("train:", "\ttrain:", 3, "a tab is used"),
    ],
)
def test_mistake_in_the_base(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    (tmp_path / "other.yaml").write_text(BASE.replace(old, new))
    found = message(tmp_path, GOOD.replace("base: base.yaml", "base: other.yaml"))
    assert found.startswith(f"other.yaml:{line}: "), found
    for part in words.split("|"):
        assert part in found


def test_mistake_in_a_profile_points_into_the_profile(tmp_path: Path) -> None:
    text = GOOD + "  slow:\n    axes:\n      norm:\n        values: [bn, gnn]\n"
    found = message(tmp_path, text, profile="slow")
    assert found.startswith("sweep.yaml:30: axes.norm.values.1: level 'gnn'")
    text = GOOD + "  slow:\n    axes: {nrom: null}\n"
    found = message(tmp_path, text, profile="slow")
    assert found.startswith("sweep.yaml:28: axes.nrom: null takes a key away")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("optim.lr", "write it as key=value"),
        ("=3", "write it as key=value"),
        ("optim..lr=3", "write it as key=value"),
        ("optim.lr=[", "is not a YAML value"),
        ("optim.lr=&a [*a]", "is not a YAML value"),
        ("optim.lr=2020-13-45", "is not a YAML value"),
        ("optim.lr=1" + "0" * 400, "the number is too large"),
        ("schedule.kind={a: 1}", "unknown kind {'a': 1}"),
        ("optim.lrr=1", "did you mean 'lr'?"),
        ("optm.lr=1", "unknown key 'optm'; did you mean 'optim'?"),
        ("sead=1", "did you mean 'seeds'?"),
        ("seed=1", "written by `seeds`"),
        ("train.workers=1", "use resources.workers"),
        ("train.batch_per_gpu=8", "train.batch_per_gpu is written by axis batch and by this"),
        ("model.neck=fpn", "model.neck.norm_act is written by axis norm"),
        ("optim.lr=-1", "lr must be positive, is -1.0"),
        ("optim.lr=fast", "must be a number, is 'fast'"),
        ("model.box_loss.kind=giuo", "unknown kind 'giuo'; did you mean 'giou'?"),
        ("axes.nrom.values=[bn]", "the sweep has no axes.nrom; did you mean 'norm'?"),
        ("axes.norm.vals=[bn]", "unknown key 'vals'"),
        ("axes.norm.values.0=bn", "give axes.norm.values whole"),
        ("axes.norm.values=[bn,gnn]", "level 'gnn'"),
        ("derive.lrr=1", "the sweep has no derive.lrr; did you mean 'lr'?"),
        ("derive.lr=x", "unknown name 'x'"),
        ("seeds=[a]", "must be a whole number, is 'a'"),
        ("seeds=4", "must be a list"),
        ("baseline.norm=xx", "unknown level 'xx'"),
        ("metric.name=loss", "unknown metric 'loss'"),
        ("set.optim.lrr=1", "did you mean 'lr'?"),
        ("base=none.yaml", "no such file"),
        ("version=2", "version cannot be set here"),
        ("profiles.quick.seeds=[1]", "profiles cannot be set here"),
    ],
)
def test_mistake_in_set(tmp_path: Path, argument: str, words: str) -> None:
    found = message(tmp_path, GOOD, overrides=[argument])
    assert found.startswith(f"--set {argument}: "), found
    assert words in found


def test_mistakes_in_other_arguments(tmp_path: Path) -> None:
    assert "unknown profile 'quik'; did you mean 'quick'? choices: quick" in message(
        tmp_path, GOOD, profile="quik"
    )
    without = GOOD.split("profiles:")[0]
    assert "unknown profile 'quick'; the file has none" in message(
        tmp_path, without, profile="quick"
    )
    assert message(tmp_path, GOOD, data=Path("no/where")) == "--data no/where: no such folder"
    file = tmp_path / "a.json"
    file.touch()
    assert message(tmp_path, GOOD, data=file) == "--data a.json: is not a folder"
    said = message(tmp_path, GOOD, data=Path("$NOT_SET_HERE/x"))
    assert said.startswith("--data is $NOT_SET_HERE/x, and the variable NOT_SET_HERE is not set on")
    assert message(tmp_path, GOOD, data=Path("~/no-such")).startswith("--data ~/no-such: no such")
    varied = GOOD.replace("path: train.batch_per_gpu", "path: data.source.seed")
    assert "data.source.seed is written by axis batch" in message(tmp_path, varied, data=tmp_path)


# ---------------------------------------------------------------- any mistake at all

anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 70)
    | st.floats(width=16)
    | st.sampled_from(["", "bn", "gn", "=lr", "lr", "1e-4", "=1/0", "a b", "é\n", "model.neck"])
    | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["kind", "path", "values", "optim.lr", "norm", "lr", "x", 1, True, None]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=5,
)


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if not isinstance(data, dict | list):
        return [path]
    inner = data.items() if isinstance(data, dict) else enumerate(data)
    return [path, *(p for key, value in inner for p in _places(value, (*path, key)))]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_value_anywhere_is_taken_or_explained(tmp_path: Path, data: st.DataObject) -> None:
    sweep = yaml.safe_load(GOOD)
    place = data.draw(st.sampled_from(_places(sweep)[1:]))
    here = sweep
    for key in place[:-1]:
        here = here[key]
    here[place[-1]] = data.draw(anything)
    (tmp_path / "base.yaml").write_text(BASE)
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(sweep, sort_keys=False))
    try:
        expand(load_sweep(file, profile=data.draw(st.sampled_from([None, "quick"]))))
    except SweepError as error:
        assert "\n" not in str(error)  # noqa: PT017  (not every draw is a mistake)
