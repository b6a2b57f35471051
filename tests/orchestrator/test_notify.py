"""What a webhook is told: a real HTTP server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.planning.make_plan import make_plan
from orchestrator.sweep import notify
from orchestrator.sweep.notify import Notify, event_of, notifying
from orchestrator.sweep.spec import SweepError, load_sweep
from tests.orchestrator.server import free_port

SECRET = "T0/B1/very-secret"
NAME = "$SWEEP_WEBHOOK"
HOOK = Notify(NAME)


class Webhook:
    """Answers with `status`; `got` has what was posted."""

    def __init__(self, status: int, silent: bool) -> None:
        got: list[Any] = []
        self.got, self.release = got, threading.Event()
        release = self.release

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                got.append((self.path, self.headers["Content-Type"], json.loads(body)))
                if silent:
                    release.wait(60)
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/{SECRET}"


@contextmanager
def webhook(status: int = 200, silent: bool = False) -> Iterator[Webhook]:
    """A server, and its address in $SWEEP_WEBHOOK."""
    hook = Webhook(status, silent)
    thread = threading.Thread(target=hook.server.serve_forever)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SWEEP_WEBHOOK", hook.url)
            yield hook
    finally:
        hook.release.set()
        hook.server.shutdown()
        hook.server.server_close()
        thread.join()


def test_a_sweep_that_is_done_is_told_whole() -> None:
    said: list[str] = []
    with webhook() as hook:
        with notifying(HOOK, "small", said.append) as ending:
            ending.outcomes = lambda: ["converged", "diverged", "converged", "oom"]
            ending.link = "http://127.0.0.1:5000/#/experiments/1"
            ending.event = "failed"
        ((path, kind, content),) = hook.got
    assert said == []
    assert (path, kind) == (f"/{SECRET}", "application/json")
    assert content["sweep"] == "small"
    assert content["event"] == "failed"
    assert content["counts"] == {"converged": 2, "diverged": 1, "oom": 1}
    assert content["headline"] == "small: failed: 3 of 4 cells settled, 1 oom"
    assert content["text"] == content["headline"]
    assert content["link"] == "http://127.0.0.1:5000/#/experiments/1"


@pytest.mark.parametrize(
    ("error", "reason"),
    [(KeyboardInterrupt(), "interrupted"), (RuntimeError("boom\nmore"), "RuntimeError: boom")],
)
def test_an_error_is_told_and_goes_on(error: BaseException, reason: str) -> None:
    with webhook() as hook:
        with pytest.raises(type(error)):  # noqa: PT012, SIM117
            with notifying(HOOK, "small") as ending:
                ending.link = "mlflow ui --backend-store-uri x"  # a command is no link
                ending.event = "done"
                raise error
        ((_, _, content),) = hook.got
    assert content["event"] == "aborted"
    assert content["headline"] == f"small: aborted: 0 of 0 cells settled: {reason}"
    assert content["link"] is None


def test_only_what_was_asked_for_is_told() -> None:
    with webhook() as hook:
        for event in ("done", "drained", "failed", "aborted"):
            with notifying(Notify(NAME, ("drained", "failed")), "small") as ending:
                ending.event = event
        assert [content["event"] for _, _, content in hook.got] == ["drained", "failed"]
    with notifying(None, "small"):
        pass


def test_how_a_sweep_ended() -> None:
    assert event_of(True) == "done"
    assert event_of(True, "drained") == "done"  # what ran at the drain was the last
    assert event_of(False) == "failed"
    assert event_of(False, "drained") == "drained"
    assert event_of(False, "cancelled") == "aborted"
    assert event_of(False, "", "the same traceback three times") == "aborted"


@pytest.mark.parametrize(
    ("status", "why"), [(500, "HTTP 500"), (404, "HTTP 404"), (302, "HTTP 302")]
)
def test_a_webhook_that_refuses_is_one_line(status: int, why: str) -> None:
    said: list[str] = []
    with webhook(status) as hook:
        with notifying(HOOK, "small", said.append) as ending:
            ending.event = "done"
        assert len(hook.got) == 1  # a redirection is not followed
    (line,) = said
    assert line.endswith(why)
    assert SECRET not in line


def test_a_webhook_that_does_not_answer_holds_no_one_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "TIMEOUT", 0.2)
    said: list[str] = []
    with webhook(silent=True) as hook:
        with notifying(HOOK, "small", said.append) as ending:
            ending.event = "done"
        # we are here although it has not answered: it does so when the block is left
        assert not hook.release.is_set()
    monkeypatch.setenv("SWEEP_WEBHOOK", f"http://127.0.0.1:{free_port()}/{SECRET}")
    with notifying(HOOK, "small", said.append) as ending:
        ending.event = "done"
    silent, absent = said
    assert silent.endswith("no answer in 0.2 s")
    assert "Connection refused" in absent
    assert SECRET not in "".join(said)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (None, "is not set"),
        ("", "is not set"),
        (f"ftp://h/{SECRET}", "must be an http or https address"),
        (f"hooks.example.com/{SECRET}", "must be an http or https address"),
        (f"https:///{SECRET}", "must be an http or https address"),
        (f"https://h:x/{SECRET}", "must be an http or https address"),
        ("https://u:very-secret@h/", "must have no user and password in it"),
    ],
)
def test_a_variable_without_an_address_is_said_first(
    monkeypatch: pytest.MonkeyPatch, value: str | None, why: str
) -> None:
    monkeypatch.delenv("SWEEP_WEBHOOK", raising=False)
    if value is not None:
        monkeypatch.setenv("SWEEP_WEBHOOK", value)
    said: list[str] = []
    with notifying(HOOK, "small", said.append) as ending:
        (early,) = said  # before the hours are spent
        assert early.startswith(f"notify: the environment variable SWEEP_WEBHOOK {why}")
        ending.event = "done"
    assert "very-secret" not in "".join(said)


# ---------------------------------------------------------------- the sweep file

SWEEP = {
    "version": 1,
    "name": "small",
    "axes": {"norm": {"path": "model.neck.norm_act", "values": ["bn", "gn"]}},
}


def written(folder: Path, **more: Any) -> Path:
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump(SWEEP | more, sort_keys=False))
    return file


def test_it_is_no_part_of_an_id(tmp_path: Path) -> None:
    plain = make_plan(written(tmp_path), root=tmp_path)
    assert plain.sweep.notify is None
    file = written(tmp_path, notify={"webhook": "$SWEEP_WEBHOOK", "on": ["done"]})
    plan = make_plan(file, root=tmp_path)
    assert plan.sweep.notify == Notify("$SWEEP_WEBHOOK", ("done",))
    assert plan.ids == plain.ids


def test_yaml_reads_on_as_true_and_we_do_not(tmp_path: Path) -> None:
    file = written(tmp_path)
    plain = file.read_text()
    file.write_text(f"{plain}notify: {{webhook: $X, on: [done, failed]}}\n")
    assert load_sweep(file).notify == Notify("$X", ("done", "failed"))
    file.write_text(f"{plain}notify:\n  webhook: $X\n  on: [done, finished]\n")
    with pytest.raises(SweepError, match=r"notify\.on\.1: .*'finished'.*choices: .*drained"):
        load_sweep(file)


NO_NAME = "must be the name of an environment variable, as $SWEEP_WEBHOOK"

MISTAKES: dict[str, tuple[Any, list[str]]] = {
    "no address": ({"on": ["done"]}, [":9: notify: ", "webhook", "missing"]),
    "an address": ({"webhook": f"https://h.com/{SECRET}"}, [":10: notify.webhook: ", NO_NAME]),
    "a part of it": ({"webhook": f"https://h.com/$X?{SECRET}"}, ["notify.webhook: ", NO_NAME]),
    "no dollar": ({"webhook": "very-secret"}, ["notify.webhook: ", NO_NAME]),
    "a list": ({"webhook": [f"https://h.com/{SECRET}"]}, ["notify.webhook: ", NO_NAME]),
    "another key": ({"webhok": f"https://h.com/{SECRET}"}, ["notify.webhok: ", "mean 'webhook'?"]),
    "no space": (f"{{webhook:https://h.com/{SECRET}}}", ["notify: ", "a space after each colon"]),
    "no mapping": (f"https://h.com/{SECRET}", ["notify: ", "must be a mapping: {webhook: $NAME"]),
    "an unknown event": ({"webhook": "$X", "on": ["finished"]}, ["notify.on", "finished", "done"]),
    "an unknown key": ({"webhook": "$X", "when": []}, ["notify", "when", "choices: on, webhook"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_keeps_the_secret(tmp_path: Path, case: str) -> None:
    given, words = MISTAKES[case]
    file = written(tmp_path)
    # as a person writes a text: yaml.safe_dump would quote it
    shown = f" {given}\n" if isinstance(given, str) else f"\n{indented(given)}"
    file.write_text(f"{file.read_text()}notify:{shown}")
    keeps_the_secret(words, file, tmp_path)


def indented(given: Any) -> str:
    return "".join(f"  {line}\n" for line in yaml.safe_dump(given, sort_keys=False).splitlines())


def keeps_the_secret(words: list[str], file: Path, folder: Path, *arguments: str) -> None:
    with pytest.raises(SweepError) as raised:
        load_sweep(file, overrides=arguments)
    line = str(raised.value)
    assert "\n" not in line
    assert line.startswith("--set notify" if arguments else f"{folder / 'sweep.yaml'}:")
    for word in words:
        assert word in line
    for secret in ("very-secret", "h.com"):
        assert secret not in line


@pytest.mark.parametrize(
    "more",
    [
        # replaced by the argument below
        {"notify": {"webhook": f"https://h.com/{SECRET}"}},
        # of a profile that this start does not choose
        {"profiles": {"cloud": {"notify": {"webhook": f"https://h.com/{SECRET}"}}}},
        {"profiles": {"cloud": {"notify": f"https://h.com/{SECRET}"}}},
    ],
)
def test_an_address_that_does_not_count_is_refused_as_well(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    """The file goes on record whole."""
    file = written(tmp_path, **more)
    with pytest.raises(SweepError, match=r"sweep\.yaml:\d+: (profiles\.cloud\.)?notify") as raised:
        load_sweep(file, overrides=["notify.webhook=$X"])
    assert "very-secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("argument", "word"),
    [
        (f"notify.webhook=https://h.com/{SECRET}", NO_NAME),
        (f"notify={{webhook: https://h.com/{SECRET}}}", NO_NAME),
        (f"notify={{webhook:https://h.com/{SECRET}}}", "a space after each colon"),
        (f"notify=https://h.com/{SECRET}", "must be a mapping"),
        (f"notify.webhok=https://h.com/{SECRET}", "unknown key 'webhok'"),
        (f"notify={{webhook: https://h.com/{SECRET}", "is not a YAML value"),
        (f"notify.webhook:https://h.com/{SECRET}", "write it as key=value"),
        (f"notify..webhook=https://h.com/{SECRET}", "write it as key=value"),
        (f"notify_webhook=https://h.com/{SECRET}", "unknown key 'notify_webhook'"),
    ],
)
def test_an_argument_keeps_the_secret(tmp_path: Path, argument: str, word: str) -> None:
    file = written(tmp_path, notify={"webhook": "$X"})
    keeps_the_secret([word], file, tmp_path, argument)
    # also if a later one takes its place, as the command goes on record whole
    keeps_the_secret([word], file, tmp_path, argument, "notify.webhook=$X")


def test_an_argument_may_name_the_variable(tmp_path: Path) -> None:
    file = written(tmp_path)
    assert load_sweep(file, overrides=["notify.webhook=$X"]).notify == Notify("$X")
    taken_away = load_sweep(written(tmp_path, notify={"webhook": "$X"}), overrides=["notify=null"])
    assert taken_away.notify is None
