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

from orchestrator import notify
from orchestrator.notify import Notify, event_of, notifying, redacted
from orchestrator.plan import make_plan
from orchestrator.spec import SweepError, load_sweep
from tests.orchestrator.server import free_port

SECRET = "T0/B1/very-secret"


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
    hook = Webhook(status, silent)
    thread = threading.Thread(target=hook.server.serve_forever)
    thread.start()
    try:
        yield hook
    finally:
        hook.release.set()
        hook.server.shutdown()
        hook.server.server_close()
        thread.join()


def test_a_sweep_that_is_done_is_told_whole() -> None:
    said: list[str] = []
    with webhook() as hook:
        with notifying(Notify(hook.url), "small", said.append) as ending:
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
            with notifying(Notify(hook.url), "small") as ending:
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
            with notifying(Notify(hook.url, ("drained", "failed")), "small") as ending:
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
        with notifying(Notify(hook.url), "small", said.append) as ending:
            ending.event = "done"
        assert len(hook.got) == 1  # a redirection is not followed
    (line,) = said
    assert line.endswith(why)
    assert SECRET not in line


def test_a_webhook_that_does_not_answer_holds_no_one_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "TIMEOUT", 0.2)
    said: list[str] = []
    with webhook(silent=True) as hook:
        with notifying(Notify(hook.url), "small", said.append) as ending:
            ending.event = "done"
        # we are here although it has not answered: it does so when the block is left
        assert not hook.release.is_set()
    with notifying(
        Notify(f"http://127.0.0.1:{free_port()}/{SECRET}"), "small", said.append
    ) as ending:
        ending.event = "done"
    silent, absent = said
    assert silent.endswith("no answer in 0.2 s")
    assert "Connection refused" in absent
    assert SECRET not in "".join(said)


def test_the_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with webhook() as hook:
        for name in ("$MY_HOOK", "${MY_HOOK}"):
            monkeypatch.setenv("MY_HOOK", hook.url)
            with notifying(Notify(name), "small", said.append) as ending:
                ending.event = "done"
        assert len(hook.got) == 2
        assert said == []
        for value, why in ((None, "is not set"), (f"ftp://h/{SECRET}", "http or https")):
            said.clear()
            monkeypatch.delenv("MY_HOOK")
            if value:
                monkeypatch.setenv("MY_HOOK", value)
            with notifying(Notify("$MY_HOOK"), "small", said.append) as ending:
                (early,) = said  # before the hours are spent
                assert early.startswith("notify: the environment variable MY_HOOK ")
                assert why in early
                ending.event = "done"
            assert SECRET not in "".join(said)
            monkeypatch.setenv("MY_HOOK", "")
        assert len(hook.got) == 2


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


MISTAKES: dict[str, tuple[Any, list[str]]] = {
    "no address": ({"on": ["done"]}, ["notify", "webhook", "missing"]),
    "a file": ({"webhook": f"file:///{SECRET}"}, ["notify.webhook", "http or https"]),
    "no scheme": ({"webhook": f"hooks.example.com/{SECRET}"}, ["notify.webhook", "http or https"]),
    "no host": ({"webhook": f"https:///{SECRET}"}, ["notify.webhook", "http or https"]),
    "a bad port": ({"webhook": f"https://h:x/{SECRET}"}, ["notify.webhook", "http or https"]),
    "a password": (
        {"webhook": f"https://u:very-secret@h/{SECRET}"},
        ["notify.webhook", "password"],
    ),
    "an unknown event": ({"webhook": "$X", "on": ["finished"]}, ["notify.on", "finished", "done"]),
    "an unknown key": ({"webhook": "$X", "when": []}, ["notify", "when", "choices: on, webhook"]),
    "no mapping": (f"https://h/{SECRET}", ["notify"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_keeps_the_secret(tmp_path: Path, case: str) -> None:
    given, words = MISTAKES[case]
    with pytest.raises(SweepError) as raised:
        load_sweep(written(tmp_path, notify=given))
    line = str(raised.value)
    assert "\n" not in line
    assert line.startswith(f"{tmp_path / 'sweep.yaml'}:")
    for word in words:
        assert word in line
    assert "very-secret" not in line


@pytest.mark.parametrize(
    "text",
    [
        f"notify: {{webhook: https://h.com/{SECRET}, on: [done]}}",
        f"notify:\n  webhook: 'https://h.com/{SECRET}'\n",
        f'notify:\n  "webhook" : "http://h.com/{SECRET}"\n',
        f"x.yaml --set notify.webhook=https://h.com/{SECRET} --yes",
        f"x.yaml --set 'notify={{webhook: https://h.com/{SECRET}}}'",
        f"+  webhook: https://h.com/{SECRET}",
    ],
)
def test_what_goes_on_record_holds_no_address(text: str) -> None:
    assert SECRET not in redacted(text)
    assert len(redacted(text).splitlines()) == len(text.splitlines())
    assert redacted("webhook: $SWEEP_WEBHOOK") == "webhook: $SWEEP_WEBHOOK"
