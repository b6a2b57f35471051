"""python -m dashboards.report on a real store: every format, mistakes, and files written whole."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import resource
import stat
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fcntl import ioctl
from pathlib import Path

import jsonschema
import pytest

import dashboards
from dashboards.report import FORMATS, ReportError, main, write_whole
from dashboards.results import read_study
from tests.dashboards.ledgers import Start, empty_store, plan_of

SCORES = {"bn": (0.60, 0.62, 0.61), "gn": (0.64, 0.66, 0.66), "evonorm_s0": (0.8, "diverged", 0.82)}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that holds the finished sweep `small`."""
    root = empty_store(tmp_path_factory.mktemp("tables"), tmp_path_factory.mktemp("in") / "project")
    norms = {"path": "model.neck.norm_act", "values": list(SCORES)}
    plan = plan_of(root, axes={"norm": norms}, baseline={"norm": "bn"}, seeds=[0, 1, 2])
    start = Start(root, plan)
    for number, planned in enumerate(plan.cells):
        cell = planned.cell
        score = SCORES[str(cell.axes["norm"])][cell.seed]
        reason = {"reason": "loss is <NaN>", "step": 7} if score == "diverged" else {}
        start.train(number, score, **reason)
    start.end()
    return root


@pytest.fixture(autouse=True)
def _there(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(project)


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["small", *argv]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def command(*argv: str) -> list[str]:
    return [sys.executable, "-m", "dashboards.report", *argv]


# ---------------------------------------------------------------- formats
# GN - BN in AP50: 0.04, 0.04, 0.05, the worked example of test_tables.py. The noise is that of both
# arms and so another: EvoNorm has 0.80 and 0.82 where BN has 0.60 and 0.61.


def test_markdown_from_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "--format", "md")
    rows = [line.split(" | ") for line in text.split("\n") if line.startswith("| ")]
    # mean of 0.64, 0.66, 0.66: 1.96 / 3 = 0.65333, SD 0.011547; the target is AP50
    by_level = {row[0]: row for row in rows}
    assert by_level["| norm"][2] == "AP50"
    assert by_level["| gn"][1:3] == ["3/3", "**0.653 ± 0.012**"]
    assert by_level["| evonorm_s0"][2] == "0.810 ± 0.014, 1 diverged †"
    assert by_level["| evonorm_s0"][4].startswith("better where it converged (2 of 3)")
    assert r"- † seed 1: diverged at step 7, loss is &lt;NaN&gt;" in text
    assert "**small**: Which norm?" in text


def test_json_is_the_whole_document(capsys: pytest.CaptureFixture[str]) -> None:
    made = json.loads(shown(capsys, "--format", "json"))
    folder = Path(dashboards.__file__).parent
    jsonschema.validate(made, json.loads((folder / "schema.json").read_text("utf-8")))
    assert len(made["cells"]) == 9
    assert made["comparisons"]["AP50"]["arms"][made["arms"][1]["key"]]["verdict"] == "better"


def test_csv_has_a_line_for_each_cell_or_arm(capsys: pytest.CaptureFixture[str]) -> None:
    cells = list(csv.DictReader(io.StringIO(shown(capsys, "--format", "csv"))))
    found = {(row["axis.norm"], int(row["seed"])): row for row in cells}
    assert {key: row["AP50"] or row["outcome"] for key, row in found.items()} == {
        (norm, seed): str(score)
        for norm, scores in SCORES.items()
        for seed, score in enumerate(scores)
    }
    arms = list(csv.DictReader(io.StringIO(shown(capsys, "--format", "csv", "--per", "arm"))))
    assert [row["axis.norm"] for row in arms] == list(SCORES)


def test_latex_and_the_page_hold_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert r"evonorm\_s0 & 3/3 &" in shown(capsys, "--format", "tex")
    page = shown(capsys, "--format", "html")
    assert page.startswith("<!")
    assert "loss is <NaN>" not in page  # escaped
    assert "evonorm_s0" in page


def test_without_a_format_the_table_and_the_conclusions(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys)
    assert "small: Which norm?" in text
    assert text.index("1 diverged†") < text.index("\n- ") < text.index("n: settled cells")
    assert "\x1b" not in text


def test_a_sweep_is_named_by_its_file_too(capsys: pytest.CaptureFixture[str]) -> None:
    by_name = shown(capsys, "--format", "md")
    assert main(["small.yaml", "--format", "md"]) == 0
    assert capsys.readouterr().out == by_name


def test_columns_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    head = shown(capsys, "--format", "md", "--metrics", "mAP").split("\n")[2]
    assert head.endswith("| verdict | mAP |")
    head = shown(capsys, "--format", "md", "--metric", "mAP", "--metrics", "").split("\n")[2]
    assert head.startswith("| norm | n | mAP | difference")
    assert head.endswith("| verdict |")


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_has_what_standard_output_has(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"report.{kind}"
    assert shown(capsys, "--out", str(file)) == ""
    assert file.read_text("utf-8") == shown(capsys, "--format", kind)
    assert [one.name for one in tmp_path.iterdir()] == [file.name]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~umask


def test_a_format_goes_before_the_suffix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.txt"
    shown(capsys, "--out", str(file), "--format", "md")
    assert file.read_text("utf-8").startswith("**small**")


@contextmanager
def small_disk() -> Iterator[None]:
    """No file can grow beyond 1,000 bytes; for as short as can be, as pytest writes files too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_leaves_the_old_file_whole(tmp_path: Path) -> None:
    file = tmp_path / "report.md"
    write_whole(file, "old")
    expected = pytest.raises(ReportError, match=r"--out .*report.md: File too large")
    with expected, small_disk():
        write_whole(file, "new" * 1000)
    assert file.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == [file.name]


def test_links_and_devices_stay_what_they_are(tmp_path: Path) -> None:
    file, link = tmp_path / "a.md", tmp_path / "b.md"
    link.symlink_to(file)
    write_whole(link, "text")
    assert link.is_symlink()
    assert file.read_text() == "text"
    device = tmp_path / "null.md"
    device.symlink_to("/dev/null")
    write_whole(device, "text")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_who_reads_may_have_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        command("small", "--format", "json"),
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(dashboards.__file__).parents[1])},
    )
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_on_a_terminal_it_is_as_wide_as_that_and_marks_what_is_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS")
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
    monkeypatch.delenv("NO_COLOR", raising=False)
    place = {"PYTHONPATH": str(Path(dashboards.__file__).parents[1]), "TERM": "xterm"}
    with subprocess.Popen(command("small"), stdout=theirs, env={**os.environ, **place}) as process:
        os.close(theirs)
        text = b""
        try:
            while part := os.read(ours, 4096):
                text += part
        except OSError:  # how a terminal ends
            pass
    os.close(ours)
    assert process.returncode == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text.decode()).split("\r\n")
    assert 80 < max(map(len, lines)) <= 100
    assert re.search(r"\x1b\[1;32mbetter", text.decode())


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["smal"], "no sweep 'smal' is on record"),
        (["none.yaml"], "none.yaml: No such file"),
        (["small", "--variant", "z"], "no variant 'z'"),
        (["small", "--metric", "AP500"], "no numbers of a metric 'AP500'; did you mean AP50?"),
        (["small", "--metrics", "mAP,x"], "no numbers of a metric 'x'; there are AP50, mAP"),
        (["small", "--format", "csv", "--metrics", "x"], "--metrics: csv has every metric"),
        (["small", "--format", "html", "--metric", "x"], "--metric: html has every metric"),
        (["small", "--format", "md", "--per", "arm"], "--per goes with --format csv"),
        (["small", "--out", "report"], "--out report: the format does not follow from the name"),
        (["small", "--out", "a.doc"], "give --format html, md, tex, csv or json"),
        (["small", "--out", "no/a.md"], "--out no/a.md: there is no folder"),
        (["small", "--out", ".", "--format", "md"], "--out .: is a folder"),
        (["small", "--out", "x" * 300 + ".md"], "File name too long"),
    ],
)
def test_a_mistake_is_one_line(
    argv: list[str], said: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(project.iterdir())
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert sorted(project.iterdir()) == before


def test_a_mistake_leaves_the_file_that_is_there(project: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_text("old")
    assert main(["small", "--out", str(file), "--metric", "nope"]) == 2
    assert file.read_text() == "old"


def test_without_a_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["small"]) == 2
    assert "no sweep is on record: there is no file" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert main(["small"]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argv", [[], ["small", "--format", "pdf"], ["small", "--nope"]])
def test_arguments_that_are_none(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_a_sweep_that_adds_seeds_says_with_how_many_it_was_looked_at(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    axes = {"norm": {"path": "model.neck.norm_act", "values": ["bn", "gn"]}}
    seeds = {"list": [0, 1], "extend_to": 4}
    plan = plan_of(project, name="grows", axes=axes, baseline={"norm": "bn"}, seeds=seeds)
    start = Start(project, plan)
    for number, planned in enumerate(plan.cells):
        start.train(number, 0.6 + 0.01 * planned.cell.seed + 0.1 * (number % 3))
    assert main(["grows"]) == 0
    assert "looked at with 2, 3, 4 seeds" in " ".join(capsys.readouterr().out.split())


def test_the_answer_is_that_of_the_record(capsys: pytest.CaptureFixture[str]) -> None:
    """The table's means are those of the study as it was read."""
    of = read_study("small")
    made = json.loads(shown(capsys, "--format", "json"))
    for arm, told in zip(of.arms, made["arms"], strict=True):
        values = arm.values("AP50")
        assert told["values"]["AP50"]["mean"] == pytest.approx(sum(values) / len(values))


def test_a_start_with_other_arguments_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = empty_store(tmp_path / "tables", tmp_path / "project")
    plan = plan_of(root, seeds=[0])
    Start(root, plan).end()
    Start(root, replace(plan, variant="0ther"), "--set seeds=[0]").end()
    monkeypatch.chdir(root)
    assert main(["small", "--format", "md"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("of small this is the start 0ther (--set seeds=[0]); also on record")
    assert line.endswith(f"with --variant: {plan.variant}")
    assert main(["small", "--format", "md", "--variant", plan.variant]) == 0
    assert capsys.readouterr().err == ""
