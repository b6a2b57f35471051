"""The display while a sweep runs, on a screen and in a log."""

import io
import threading

import pytest
from rich.console import Console

from orchestrator.running.progress import SHOWN, Progress, duration


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def on_paper():
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def on_screen():
    return Console(file=io.StringIO(), force_terminal=True, width=80, legacy_windows=False)


def render(progress):
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(progress.table())
    return console.file.getvalue().splitlines()


def test_a_log_gets_one_line_per_finished_cell_and_one_per_minute():
    clock, console = Clock(), on_paper()
    with Progress(3, ["converged"], console, clock) as progress:
        progress.cell_started("a", "bn [b2] s0", 2)
        for second in range(150):
            clock.now += 1
            progress.cell_progress("a", second, 300, 0.5, 10.0)
        progress.cell_finished("a", "converged", 0.3123, 150.0)
        progress.cell_started("b", "x" * 100, 2)
        clock.now += 5
        progress.cell_finished("b", "crashed")
    lines = console.file.getvalue().splitlines()
    assert [line for line in lines if line.startswith("[")] == [
        "[2/3] bn [b2] s0: converged mAP 0.312, 2:30",
        f"[3/3] {'x' * 100}: crashed, 5 s",  # a log's line is not folded
    ]
    assert len(lines) == 2 + 3  # and the status at 0, 60 and 120 seconds
    assert "\x1b" not in console.file.getvalue()


def test_outcomes_may_have_other_words():
    clock, console = Clock(), on_paper()
    with Progress(2, console=console, clock=clock, words={"converged": "ok"}) as progress:
        for id, outcome in (("a", "converged"), ("b", "diverged")):
            progress.cell_started(id, id, 1)
            clock.now += 5
            progress.cell_finished(id, outcome)
        assert progress.status().startswith("2/2 done (1 ok, 1 diverged)")
    lines = console.file.getvalue().splitlines()
    assert [line for line in lines if line.startswith("[")] == [
        "[1/2] a: ok, 5 s",
        "[2/2] b: diverged, 5 s",
    ]


def test_a_fault_that_another_attempt_follows_is_said_and_not_counted():
    clock, console = Clock(), on_paper()
    with Progress(2, console=console, clock=clock) as progress:
        progress.cell_started("a", "a", 1)
        clock.now += 7
        progress.cell_again("a", "lost")
        assert progress.status().startswith("0/2 done, 0 running, 2 waiting")
    assert "a: lost after 7 s, is run again" in console.file.getvalue().splitlines()


def test_a_cell_that_is_tried_again_is_counted_once():
    with Progress(2, console=on_paper(), clock=Clock()) as progress:
        progress.cell_started("a", "a", 1)
        progress.cell_finished("a", "lost")
        assert progress.status().startswith("1/2 done (1 lost), 0 running, 1 waiting")
        progress.cell_started("a", "a", 1)
        assert progress.status().startswith("0/2 done, 1 running, 1 waiting")
        progress.cell_finished("a", "converged", 0.5)
        assert progress.status().startswith("1/2 done (1 converged), 0 running, 1 waiting")
        progress.cell_progress("a", 1, 2)  # a late message revives nothing
        assert "0 running" in progress.status()


def test_time_left():
    clock = Clock()
    with Progress(6, console=on_paper(), clock=clock) as progress:
        assert progress.seconds_left() is None
        progress.cell_started("a", "a", 1)
        progress.cell_started("b", "b", 1)
        assert progress.seconds_left() is None  # nothing is known yet
        clock.now += 40
        progress.cell_progress("a", 100, 200)  # 40 s for a half: 80 s in all
        progress.cell_progress("b", 100, 200)
        # rest of a and b: 40 s each; four waiting at 80 s; two at a time: (80 + 320) / 2
        assert progress.seconds_left() == pytest.approx(200)
        clock.now += 20
        progress.cell_finished("a", "converged", 0.3, 60.0)
        progress.cell_progress("b", 100, 200)
        # b is at 100 of 200 after 60 s, so 60 s to go; four waiting at the 60 s of a: 300 / 2
        assert progress.seconds_left() == pytest.approx(150)
        clock.now += 60
        progress.cell_finished("b", "converged", 0.3, 120.0)
        assert progress.seconds_left() == pytest.approx(4 * 90 / 2)


def test_a_cell_goes_on_at_the_pace_that_it_had_when_it_was_last_heard_of():
    clock = Clock()
    with Progress(2, console=on_paper(), clock=clock) as progress:
        progress.cell_started("a", "a", 1)
        progress.cell_finished("a", "converged", 0.3, 30.0)
        progress.cell_started("b", "b", 1)
        clock.now += 2
        progress.cell_progress("b", 1, 1000)  # its start took the time, not its step
        clock.now += 3
        assert progress.seconds_left() == pytest.approx(25)
        progress.cell_progress("b", 100, 1000)  # after 5 s: 50 in all
        clock.now += 4
        assert progress.seconds_left() == pytest.approx(41)


def test_the_last_cell_is_not_divided_among_idle_places():
    clock = Clock()
    with Progress(2, console=on_paper(), clock=clock) as progress:
        progress.cell_started("a", "a", 1)
        progress.cell_started("b", "b", 1)
        progress.cell_finished("a", "converged", 0.3, 10.0)
        clock.now += 50
        progress.cell_progress("b", 50, 100)
        assert progress.seconds_left() == pytest.approx(50)


def test_the_table_stays_small_and_names_are_text():
    with Progress(30, console=on_paper(), clock=Clock()) as progress:
        for i in range(20):
            progress.cell_started(str(i), f"[red]norm[/x]={i} " + "long " * 30, 2)
            progress.cell_progress(str(i), 119_990 + i, 120_000, 1.25e-7, 3333.3)
        lines = render(progress)
        assert len(lines) <= SHOWN + 3
        assert max(map(len, lines)) <= 80
        assert lines[1].startswith("[red]norm[/x]=0")
        assert all(text in lines[1] for text in ("119990/120000", "1.25e-07", "3333.3", "0 s"))
        assert any("and 12 more" in line for line in lines)


def test_a_screen_gets_finished_cells_above_and_the_cursor_back():
    console, threads = on_screen(), threading.active_count()

    def fails():
        with Progress(2, console=console, clock=Clock()) as progress:
            progress.cell_started("a", "norm=bn", 2)
            assert threading.active_count() == threads
            progress.cell_finished("a", "diverged", None, 3.0)
            progress.message("a [line] from elsewhere")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    shown = console.file.getvalue()
    assert "[1/2] norm=bn: diverged, 3 s" in shown
    assert "a [line] from elsewhere" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # shown again after hidden


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (92, "1:32"), (7509, "2:05:09"), (-3, "0 s")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
