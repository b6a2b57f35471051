"""The live application without a browser: addresses, answers, and who may ask."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from dashboards.serve import main
from tests.dashboards.ledgers import Start, empty_store, plan_of

CODE = Path(__file__).parents[2]


@contextmanager
def served(root: Path, *options: str, **environment: str) -> Iterator[tuple[str, Path]]:
    """The address of an application for the store in `root`, and what it says on stderr."""
    told = root / "stderr"
    variables = {**os.environ, "PYTHONPATH": str(CODE), **environment}
    if "MLFLOW_TRACKING_URI" not in environment:
        variables.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "dashboards.serve", "--port", "0", "--refresh", "0.2"]
    with told.open("w") as stderr:
        process = subprocess.Popen(
            [*command, *options],
            cwd=root,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout
    try:
        line = process.stdout.readline()
        assert line.startswith("http://"), told.read_text()
        yield line.split()[0], told
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sweeps: `small` runs, with 1 of 12 cells settled; `other` was not begun."""
    folder = tmp_path_factory.mktemp("serve")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        made = empty_store(folder / "tables", folder / "project")
        Start(made, plan_of(made)).train(0, 0.31)
        Start(made, plan_of(made, name="other"))
    return made


@pytest.fixture(scope="module")
def address(root: Path) -> Iterator[str]:
    with served(root) as (found, _):
        yield found


@contextmanager
def broken(root: Path) -> Iterator[None]:
    """A store that does not answer: the table of its runs is away."""
    with closing(sqlite3.connect(root / "mlruns" / "mlflow.db", timeout=60)) as store:
        store.execute("ALTER TABLE runs RENAME TO away")
        store.commit()
        try:
            yield
        finally:
            store.execute("ALTER TABLE away RENAME TO runs")
            store.commit()


def ask(address: str, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, str]:
    parts = urlsplit(address)
    assert parts.hostname
    connection = HTTPConnection(parts.hostname, parts.port, timeout=60)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, headers=given)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def until(condition: Callable[[], bool]) -> None:
    """Waits for what happens after the next refresh."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def island_of(page: str) -> str:
    return page.split('id="data">', 1)[1].split("</script>", 1)[0]


# ---------------------------------------------------------------- what is there


def test_sweeps_are_listed_with_their_progress(address: str) -> None:
    answer, text = ask(address, "/api/sweeps.json")
    assert answer.status == 200
    found = {sweep["name"]: sweep for sweep in json.loads(text)}
    assert set(found) == {"small", "other"}
    small = found["small"]
    assert (small["settled"], small["planned"], small["state"]) == (1, 12, "running")
    assert small["outcomes"] == {"converged": 1, "waiting": 11}
    assert small["page"] == "/sweep/small"
    assert ask(address, small["page"])[0].status == 200
    assert ask(address, "/")[0].status == 200


def test_a_sweep_is_compared_on_its_own_metric_and_on_the_one_asked_for(address: str) -> None:
    _, text = ask(address, "/api/sweep/small.json")
    assert set(json.loads(text)["comparisons"]) == {"AP50"}
    _, text = ask(address, "/api/sweep/small.json?metric=mAP")
    told = json.loads(text)
    assert set(told["comparisons"]) == {"AP50", "mAP"}
    assert told["sweep"]["name"] == "small"
    assert told["totals"]["cells"] == 12


def test_curves_come_by_cell(address: str, root: Path) -> None:
    answer, text = ask(address, "/api/sweep/small/curves.json")
    assert answer.status == 200
    (cell,) = (
        c for c in json.loads(ask(address, "/api/sweep/small.json")[1])["cells"] if c["run_id"]
    )
    assert json.loads(text)["curves"][cell["id"]]["AP50"] == [[100, 0.31]]


def test_data_that_did_not_change_are_not_sent_again(address: str) -> None:
    first, text = ask(address, "/api/sweep/small.json")
    tag = first.headers["ETag"]
    for known in (tag, f'"other", W/{tag}'):
        again, nothing = ask(address, "/api/sweep/small.json", If_None_Match=known)
        assert (again.status, nothing) == (304, "")
    other, whole = ask(address, "/api/sweep/small.json", If_None_Match='"other"')
    assert (other.status, whole) == (200, text)


@pytest.mark.parametrize(
    "name",
    ["smal", "..%2F..%2Fetc%2Fpasswd", "%3Cscript%3E", "small.yaml", "x" * 300, "%00", "a/b"],
)
def test_an_unknown_sweep_is_not_found(address: str, name: str) -> None:
    page, text = ask(address, f"/sweep/{name}")
    assert page.status == 404
    assert "is on record" in text
    assert "<script>" not in text
    data, text = ask(address, f"/api/sweep/{name}.json")
    assert data.status == 404
    assert "is on record" in json.loads(text)["error"]


def test_an_unknown_variant_says_which_there_are(address: str) -> None:
    answer, text = ask(address, "/api/sweep/small.json?variant=nope")
    assert answer.status == 404
    assert "has no variant 'nope'" in json.loads(text)["error"]


def test_there_is_nothing_to_write_to(address: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        for path in ("/", "/sweep/small", "/api/sweep/small.json", "/api/sweeps.json"):
            assert ask(address, path, method)[0].status == 405
    assert ask(address, "/healthz")[1] == "ok"


# ---------------------------------------------------------------- who may ask


def test_every_answer_says_what_the_browser_must_keep_to(address: str) -> None:
    for path in ("/", "/sweep/small", "/api/sweeps.json", "/nothing", "/sweep/nope", "/healthz"):
        headers = ask(address, path)[0].headers
        policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["connect-src"] == policy["frame-ancestors"] == "'self'"
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Server" not in headers


def test_only_its_own_names_are_answered(address: str) -> None:
    """A page elsewhere may have its name point to 127.0.0.1 (DNS rebinding): the browser then sends
    that name."""
    port = urlsplit(address).port
    for host, status in (
        ("localhost", 200),
        (f"127.0.0.1:{port}", 200),
        ("[::1]:80", 200),
        ("evil.example", 400),
        (f"evil.example:{port}", 400),
        ("127.0.0.1.evil.example", 400),
        ("localhost.evil.example", 400),
        ("", 400),
    ):
        answer, text = ask(address, "/api/sweeps.json", Host=host)
        assert answer.status == status, host
        assert ("small" in text) == (status == 200)


def test_another_interface_is_cautioned_of_and_further_names_are_let_in(root: Path) -> None:
    with served(root, "--host", "0.0.0.0", "--allowed-host", "lab.example") as (address, told):
        local = address.replace("0.0.0.0", "127.0.0.1")
        assert ask(local, "/healthz", Host="lab.example")[0].status == 200
        assert ask(local, "/healthz", Host="evil.example")[0].status == 400
        (line,) = told.read_text().splitlines()
        assert line.startswith("caution: --host 0.0.0.0 shows every sweep")


# ---------------------------------------------------------------- what goes wrong


def test_a_store_that_is_away_is_told_in_a_line_and_what_was_read_stays(
    root: Path,
) -> None:
    with served(root) as (address, _):
        assert ask(address, "/sweep/small")[0].status == 200
        with broken(root):
            until(lambda: ask(address, "/api/sweep/small.json")[0].status == 503)
            (reason,) = json.loads(ask(address, "/api/sweep/small.json")[1])["error"].splitlines()
            page, text = ask(address, "/sweep/small")
            assert page.status == 503
            told = json.loads(island_of(text))
            assert told["live"]["stale"] == reason
            assert told["document"]["totals"]["cells"] == 12
            never_read, text = ask(address, "/sweep/other")
            assert never_read.status == 503
            assert "does not answer" in text
            assert ask(address, "/healthz")[0].status == 200
        until(lambda: ask(address, "/api/sweep/small.json")[0].status == 200)


def test_without_a_store_the_page_says_what_is_missing(tmp_path: Path) -> None:
    with served(tmp_path) as (address, _):
        answer, text = ask(address, "/")
        assert answer.status == 503
        assert str(tmp_path) in text


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["--port", str(port)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(f"--host 127.0.0.1 --port {port}: ")
    assert "in use" in line


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--port", "70000"], "'70000' is no port: a number from 0 to 65535"),
        (["--port", "http"], "'http' is no port"),
        (["--refresh", "0"], "'0': seconds from 0.2 to 86400"),
        (["--refresh", "nan"], "'nan': seconds from 0.2"),
        (["--allowed-host", "a:80"], "'a:80' is no name of a machine (without a port)"),
        (["--allowed-host", "*"], "'*' is no name of a machine"),
    ],
)
def test_a_mistake_in_the_options_is_named(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(options)
    assert told in capsys.readouterr().err


def test_a_host_that_is_not_this_machine_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "192.0.2.77", "--port", "0"]) == 2  # TEST-NET-1, nobody's
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--host 192.0.2.77 --port 0: ")


def test_a_sweep_that_is_called_like_a_file_is_that_sweep(tmp_path: Path) -> None:
    """The file `small.yaml`, which lies where the server runs, names another one."""
    root = empty_store(tmp_path / "tables", tmp_path / "project")
    Start(root, plan_of(root, question="that?", seeds=[0]))
    Start(root, plan_of(root, name="small.yaml", question="this?", seeds=[0]))
    assert (root / "small.yaml").is_file()
    with served(root) as (address, _):
        found = json.loads(ask(address, "/api/sweep/small.yaml.json")[1])
        assert found["sweep"]["question"] == "this?"
        hidden = root / "hidden.yaml"
        hidden.write_text("secret: [")
        answer, text = ask(address, f"/api/sweep/{quote(str(hidden), safe='')}.json")
        assert (answer.status, "secret" in text) == (404, False)


def test_a_name_that_no_host_has_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--host", "a..b", "--port", "0"]) == 2
    assert capsys.readouterr().err.startswith("--host a..b --port 0: ")
