"""What the compose files promise, read as compose reads them; compose itself where it is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stack.compose import BASE, CPU, ROOT, MissingVariable, mounts, read, substitute

SECRETS = {name: f"secret-{name}" for name in ("POSTGRES_PASSWORD", "RAY_AUTH_TOKEN")}
SECRETS |= {"GRAFANA_PASSWORD": "secret-GRAFANA_PASSWORD"}
SERVICES: dict[str, Any] = read(SECRETS)["services"]
OURS = ("mlflow", "ray-head", "ray-worker", "dashboards")
VARIABLE = re.compile(r"\$\{(\w+)")


def test_the_services_are_there() -> None:
    expected = {"postgres", "mlflow", "ray-head", "ray-worker", "dashboards"}
    assert set(SERVICES) == expected | {"prometheus", "grafana"}


def test_every_published_port_is_this_machines_alone_unless_opened() -> None:
    published = [p for service in SERVICES.values() for p in service.get("ports", [])]
    assert len(published) == 5
    assert all(port.startswith("127.0.0.1:") for port in published)
    opened = read({**SECRETS, "BIND": "0.0.0.0"})["services"]
    shown = {name for name, s in opened.items() if any("0.0.0.0:" in p for p in s.get("ports", []))}
    assert shown == {"mlflow", "ray-head", "grafana"}  # the others have no password to ask for
    assert not any("network_mode" in service for service in SERVICES.values())


def test_mlflows_password_is_not_in_the_environment_of_cells() -> None:
    assert "MLFLOW_TRACKING_PASSWORD" not in SERVICES["ray-worker"]["environment"]
    assert "MLFLOW_TRACKING_PASSWORD" in SERVICES["ray-head"]["environment"]


def test_links_may_lead_to_a_proxy() -> None:
    address = "https://lab.example.org/mlflow"
    given = read({**SECRETS, "ABLATION_MLFLOW_URL": address})["services"]["ray-head"]
    assert given["environment"]["ABLATION_MLFLOW_URL"] == address
    plain = SERVICES["ray-head"]["environment"]["ABLATION_MLFLOW_URL"]
    assert plain == "http://localhost:5000"


@pytest.mark.parametrize("missing", SECRETS)
@pytest.mark.parametrize("given", [None, ""])
def test_nothing_starts_without_a_secret(missing: str, given: str | None) -> None:
    settings = {name: value for name, value in SECRETS.items() if name != missing}
    with pytest.raises(MissingVariable, match=missing):
        read(settings | ({} if given is None else {missing: given}))


def test_no_secret_has_a_value_in_the_repository() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    values = dict(line.lstrip("#").split("=", 1) for line in lines if re.match(r"#?\w+=", line))
    assert values.keys() >= SECRETS.keys()
    for name, value in values.items():
        if re.search("PASSWORD|TOKEN|SECRET|KEY", name):
            assert value == "", name
            for default in re.findall(rf"\$\{{{name}:?-([^}}]*)\}}", BASE.read_text()):
                assert default == "", name
    ignored = subprocess.run(["git", "check-ignore", "-q", ".env"], cwd=ROOT, check=False)
    assert ignored.returncode in (0, 128)  # 128: not in a checkout


def test_a_secret_is_in_no_command_line() -> None:
    for service in SERVICES.values():
        assert "secret-" not in str(service.get("command", ""))
        assert "secret-" not in str(service["healthcheck"])


def test_every_setting_is_explained() -> None:
    said = (ROOT / ".env.example").read_text() + (ROOT / "docs" / "cluster.md").read_text()
    for name in set(VARIABLE.findall(BASE.read_text())):
        assert re.search(rf"\b{name}\b", said), name


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    image, _, tag = SERVICES[name]["image"].partition(":")
    assert re.fullmatch(r"v?\d+(\.\d+)+", tag), image


def test_our_image_is_of_this_version_and_comes_from_nowhere_else() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name in OURS:
        assert SERVICES[name]["image"] == f"detection-ablation:{version}"
        assert SERVICES[name]["pull_policy"] == "never"
    built = [name for name in OURS if "build" in SERVICES[name]]
    assert built == ["mlflow"]
    assert (ROOT / SERVICES["mlflow"]["build"]["dockerfile"]).is_file()


def test_the_image_is_made_of_files_that_the_builder_is_sent() -> None:
    sent = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "docker/Dockerfile").read_text(), re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists()
        assert f"!{name}" in sent


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_says_whether_it_is_healthy_and_waits_for_health(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)
    for other, how in SERVICES[name].get("depends_on", {}).items():
        assert how == {"condition": "service_healthy"}, other


def test_every_file_that_is_mounted_exists_and_cannot_be_written() -> None:
    volumes = set(read(SECRETS)["volumes"])
    lines = [v for service in SERVICES.values() for v in service.get("volumes", [])]
    for source, _, mode in (line.partition(":") for line in lines):
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert mode.endswith(":ro"), source
        else:
            assert source in volumes, source


def test_a_volume_lies_at_one_place_in_every_container() -> None:
    """Ray's list of nodes names files by their path, and cells' folders are told from node to
    node; tests/stack relies on it, too."""
    places: dict[str, set[str]] = {}
    for service in SERVICES.values():
        for inside, source in mounts(service).items():
            places.setdefault(source, set()).add(inside)
    assert all(len(found) == 1 for found in places.values()), places
    kept = {source for source in places if not source.startswith(".")}
    assert kept == set(read(SECRETS)["volumes"])


def test_every_ray_node_has_the_same_files_and_token() -> None:
    head, worker = SERVICES["ray-head"], SERVICES["ray-worker"]
    assert mounts(worker).items() <= mounts(head).items()
    for service in (head, worker):
        assert service["environment"]["RAY_AUTH_MODE"] == "token"
        assert service["environment"]["RAY_AUTH_TOKEN"] == SECRETS["RAY_AUTH_TOKEN"]


def test_prometheus_and_grafana_are_given_what_their_files_ask_for() -> None:
    config = yaml.safe_load((ROOT / "dashboards/prometheus/prometheus.yml").read_text())
    (wanted,) = config["scrape_configs"][0]["file_sd_configs"][0]["files"]
    assert mounts(SERVICES["prometheus"])[str(Path(wanted).parent)] == "ray"
    grafana = SERVICES["grafana"]
    for inside, source in mounts(grafana).items():
        if inside.startswith("/etc/grafana"):
            text = (ROOT / source).read_text()
            names = re.findall(r"\$(\w+)", text)
            assert set(names) <= set(grafana["environment"])
            paths = [p["options"]["path"] for p in yaml.safe_load(text).get("providers", [])]
            for path in (substitute(p, grafana["environment"]) for p in paths):
                assert any(path == at or path.startswith(f"{at}/") for at in mounts(grafana))


def test_workers_have_gpus_and_without_them_nothing_else_changes() -> None:
    reserved = SERVICES["ray-worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert reserved == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    without = read(SECRETS, BASE, CPU)["services"]
    assert "nvidia" not in str(without)
    worker = {k: v for k, v in SERVICES["ray-worker"].items() if k != "deploy"}
    assert without == {**SERVICES, "ray-worker": worker}


def test_a_password_for_mlflow_turns_its_authentication_on_everywhere() -> None:
    settings = {**SECRETS, "MLFLOW_AUTH_ADMIN_PASSWORD": "p", "MLFLOW_FLASK_SERVER_SECRET_KEY": "k"}
    secured = read(settings)["services"]
    assert secured["mlflow"]["command"].endswith("--app-name basic-auth")
    assert "basic-auth" not in SERVICES["mlflow"]["command"]
    for name in ("ray-head", "dashboards"):  # cells do not talk to MLflow
        environment = secured[name]["environment"]
        assert environment["MLFLOW_TRACKING_USERNAME"] == "admin"
        assert environment["MLFLOW_TRACKING_PASSWORD"] == "p"
        assert SERVICES[name]["environment"]["MLFLOW_TRACKING_USERNAME"] == ""


@pytest.mark.parametrize("files", [(BASE,), (BASE, CPU)], ids=["base", "cpu"])
def test_compose_itself_takes_the_files(files: tuple[Path, ...]) -> None:
    if not shutil.which("docker"):
        pytest.skip("docker is not installed")
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("docker has no compose plugin here")
    chosen = [word for file in files for word in ("-f", str(file))]
    done = subprocess.run(
        ["docker", "compose", *chosen, "config", "--quiet"],
        env={"PATH": str(Path(str(shutil.which("docker"))).parent), **SECRETS},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [  # by the rules of the compose specification, "Interpolation"
        ("${SET}-$SET", "v-v"),
        ("$$SET", "$SET"),
        ("${UNSET:-d}${UNSET-d}${EMPTY:-d}${EMPTY-d}", "ddd"),
        ("${SET:+r}${EMPTY:+r}${EMPTY+r}${UNSET+r}", "rr"),
        ("${SET:?no}${EMPTY?no}", "v"),
        ("${UNSET:-http://${SET}:${UNSET:-1}}${SET:-${UNSET}}", "http://v:1v"),
    ],
)
def test_variables_are_put_in_as_compose_does(text: str, expected: str) -> None:
    assert substitute(text, {"SET": "v", "EMPTY": ""}) == expected


@pytest.mark.parametrize("text", ["${UNSET?gone}", "${EMPTY:?gone}", "${A:-${B:-${C}}}", "${}"])
def test_what_cannot_be_put_in_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        substitute(text, {"EMPTY": ""})
