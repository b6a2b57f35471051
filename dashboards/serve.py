"""The live application: the list of sweeps, and each sweep's page, which follows it while it runs.

    python -m dashboards.serve [--host 127.0.0.1] [--port 8321] [--refresh SECONDS]
                               [--allowed-host NAME]

It shows the store that MLFLOW_TRACKING_URI names, else mlruns/ of this folder, and only reads.
"""

from __future__ import annotations

import argparse
import ipaddress
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

EXIT_OK, EXIT_MISTAKE = 0, 2
PORT = 8321
REFRESH_S = 10.0
LOCAL = ("localhost", "127.0.0.1", "[::1]")


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    try:
        listening = _listen(args.host, args.port)
    except (OSError, UnicodeError) as error:  # the latter of a name that cannot be one
        said = getattr(error, "strerror", None) or str(error)
        print(f"--host {args.host} --port {args.port}: {said}", file=sys.stderr)
        return EXIT_MISTAKE
    with listening:
        return _serve(args, listening)


def _serve(args: argparse.Namespace, listening: socket.socket) -> int:
    import uvicorn

    from dashboards.app import application
    from dashboards.results import Reader
    from dashboards.store import LedgerError

    try:
        reader = Reader()
    except LedgerError as error:
        print(error, file=sys.stderr)
        return EXIT_MISTAKE
    hosts = [*LOCAL, _in_address(args.host), *args.allowed_host]
    app = application(reader, args.refresh, hosts)
    if not _is_loopback(args.host):
        print(
            f"caution: --host {args.host} shows every sweep of the store to whoever can reach it: "
            "there is no password. It answers to the names "
            f"{', '.join(hosts)} (further ones: --allowed-host NAME)",
            file=sys.stderr,
        )
    port = listening.getsockname()[1]
    print(f"http://{_in_address(args.host)}:{port}/ (Ctrl-C ends it)", flush=True)
    config = uvicorn.Config(app, log_level="warning", server_header=False, lifespan="off")
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
    return EXIT_OK


def _listen(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, address = found[0][0], found[0][4]
    return socket.create_server(address[:2], family=family, backlog=128)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.serve",
        description=__doc__.split("\n\n", 1)[0] + " It only reads.",
        allow_abbrev=False,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (%(default)s)")
    parser.add_argument(
        "--port", type=_port, default=PORT, help="0: any that is free (%(default)s)"
    )
    parser.add_argument(
        "--refresh",
        type=_seconds,
        default=REFRESH_S,
        metavar="SECONDS",
        help="how often an open page asks for new data (%(default)g)",
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        type=_host_name,
        default=[],
        metavar="NAME",
        help="a further name under which it may be called; may be repeated",
    )
    return parser.parse_args(argv)


def _port(text: str) -> int:
    with suppress(ValueError):
        if 0 <= int(text) < 65536:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to 65535")


def _host_name(text: str) -> str:
    if text and not set(text.removeprefix("*.")) & set("*/: "):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is no name of a machine (without a port)")


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0.2 <= float(text) <= 86400:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r}: seconds from 0.2 to 86400")


if __name__ == "__main__":
    raise SystemExit(main())
