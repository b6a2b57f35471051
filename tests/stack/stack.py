"""The services of docker-compose.yml, started on this machine without containers.

Commands, environments, files and health checks are those of the compose file. What differs is what
a container would have given, and only that:

* a path of a container lies below one folder here, `/tmp/ray` as FOLDER/tmp/ray;
* a service is called by 127.0.0.1 and not by its name, at a free port;
* Ray's nodes have addresses of their own, 127.0.0.2 and so on;
* what an image does before its command (PostgreSQL's makes the database) is done by `native`.

Grafana is not started: Debian has no package of it.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.cluster.conftest import MARK
from tests.orchestrator.server import free_port
from tests.stack import compose, native
from tests.stack.process import Service

LEFT_OUT = {"grafana"}
PUBLISHED = {  # the setting that says at which port of this machine a service is found
    "mlflow": "MLFLOW_PORT",
    "ray-head": "RAY_PORT",
    "dashboards": "DASHBOARDS_PORT",
    "prometheus": "PROMETHEUS_PORT",
    "grafana": "GRAFANA_PORT",
}
PROJECT = "/project"  # where a driver is started, in the containers of our image
ONE_CPU = {"RAY_WORKER_OPTIONS": "--num-cpus 1"}


class Stack:
    """`with Stack() as stack: stack.start()`. `settings` is what `.env` has beside the secrets and
    ports; `workers` the same for each Ray worker. Nothing of it stays."""

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        workers: Sequence[Mapping[str, str]] = (ONE_CPU, ONE_CPU),
    ) -> None:
        self.settings = {
            # what no shell, address or YAML takes as it is
            "POSTGRES_PASSWORD": "p@ss:/w%20 'rd\"" + secrets.token_hex(8),
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "GRAFANA_PASSWORD": secrets.token_hex(8),
            "MLFLOW_WORKERS": "1",
            "SWEEPS": str(compose.ROOT / "sweeps"),
            **{name: str(free_port()) for name in PUBLISHED.values()},
            **(settings or {}),
        }
        self._workers = workers
        self._document = compose.read(self.settings)
        self._ports = {name: self._found_at(s) for name, s in self._kinds().items()}
        self.services: dict[str, Service] = {}

    def __enter__(self) -> Stack:
        self.folder = Path(tempfile.mkdtemp(prefix="s", dir="/tmp"))  # Ray puts sockets below it
        self.folder.chmod(0o755)  # PostgreSQL's user goes through it
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Each service when those that it waits for are healthy."""
        for service in self.services.values():
            service.start()

    def stop(self) -> None:
        for service in reversed(self.services.values()):
            service.stop()

    def service(self, name: str) -> Service:
        return self.services[name]

    def url(self, name: str) -> str:
        """Where mlflow, ray-head (its dashboard), dashboards or prometheus answer."""
        return f"http://127.0.0.1:{self.settings[PUBLISHED[name]]}"

    @property
    def project(self) -> Path:
        """The folder that a driver is started in."""
        return self.folder / PROJECT.lstrip("/")

    def driver_environment(self) -> dict[str, str]:
        """What `docker compose exec ray-head python -m orchestrator.run` would have."""
        environment = dict(self.services["ray-head"].environment)
        del environment[MARK]
        return environment

    # ------------------------------------------------------------ from a container to here

    def _kinds(self) -> dict[str, Any]:
        return {n: s for n, s in self._document["services"].items() if n not in LEFT_OUT}

    def _in_order(self) -> list[str]:
        """Names of services, each after those that it waits for."""
        kinds, order = self._kinds(), list[str]()
        while len(order) < len(kinds):
            order += [
                name
                for name, service in kinds.items()
                if name not in order and set(service.get("depends_on", {})) <= {*order}
            ]
        return order

    def _make(self) -> None:
        for name in self._in_order():
            if name == "ray-worker":
                for i, more in enumerate(self._workers):
                    self._add(f"{name}-{i + 1}", name, {**self.settings, **more}, 3 + i)
            else:
                self._add(name, name, self.settings, 2 if name == "ray-head" else 1)

    def _found_at(self, service: Mapping[str, Any]) -> dict[int, int]:
        """Its ports in its container, to those here."""
        published = dict(str(p).split(":")[-2:] for p in service.get("ports", []))
        inner = {int(inside): int(here) for here, inside in published.items()}
        return inner | {int(port): free_port() for port in service.get("expose", [])}

    def _add(self, name: str, kind: str, settings: Mapping[str, str], last: int) -> None:
        service = compose.read(settings)["services"][kind]
        ports = self._found_at(service) if name != kind else self._ports[kind]
        ip = f"127.0.0.{last}"

        def here(text: str) -> str:
            return self._here(text, kind, ports)

        for inside, source in compose.mounts(service).items():
            self._mount(source, self.folder / inside.lstrip("/"), here)
        words = [here(word) for word in compose.argv(service["command"])]
        check, *test = service["healthcheck"]["test"]
        assert check == "CMD"
        environment = {
            **native.environment(self.folder),
            **{k: here(str(v)) for k, v in service.get("environment", {}).items()},
            MARK: f"{self.folder.name}-{name}",
        }
        self.project.mkdir(exist_ok=True, parents=True)
        self.services[name] = Service(
            name,
            native.command(kind, words, name, ip, environment, self.folder),
            environment,
            [native.program(test[0]), *map(here, test[1:])],
            self.project,
            self.folder / f"{name}.log",
            **native.process(kind),
        )

    def _mount(self, source: str, target: Path, here: Any) -> None:
        """A volume is an empty folder; a file of the project is there as it reads here."""
        if not source.startswith((".", "/")):
            target.mkdir(exist_ok=True, parents=True)
            return
        given = compose.ROOT / source
        target.parent.mkdir(exist_ok=True, parents=True)
        if given.is_dir():
            with suppress(FileExistsError):
                target.symlink_to(given)
        else:
            target.write_text(here(given.read_text()))

    def _here(self, text: str, kind: str, ports: Mapping[int, int]) -> str:
        """A word of a container's command, environment or file, as it is on this machine."""
        for name, theirs in self._ports.items():
            host = "127.0.0.2" if name == "ray-head" else "127.0.0.1"
            for inside, port in theirs.items():
                text = re.sub(rf"\b{name}:{inside}\b", f"{host}:{port}", text)
        for inside, port in ports.items():
            text = re.sub(rf"\b(127\.0\.0\.1|0\.0\.0\.0):{inside}\b", rf"127.0.0.1:{port}", text)
            text = re.sub(rf"^{inside}$", str(port), text)
        text = re.sub(r"\b0\.0\.0\.0\b", "127.0.0.1", text)
        return re.sub(self._paths(), lambda found: f"{self.folder}{found[0]}", text)

    def _paths(self) -> str:
        """What begins with a folder that some container has of its own."""
        inside = {p for service in self._kinds().values() for p in compose.mounts(service)}
        return rf"(?<![\w./])(?:{'|'.join(map(re.escape, sorted(inside)))})\b"
