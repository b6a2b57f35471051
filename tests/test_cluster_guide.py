"""The guide for clusters: what it tells people to type can be typed."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from orchestrator.run import _parse
from tests.stack.compose import BASE, read

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", GUIDE, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


@pytest.mark.parametrize("script", blocks("sh") + blocks("bash"))
def test_a_shell_takes_the_commands(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_sweeps_are_started_with_options_that_exist() -> None:
    text = "\n".join(blocks("sh") + blocks("bash")).replace("\\\n", " ")
    given = re.findall(r"orchestrator\.run ([^&\n]*)", text)
    assert len(given) >= 4
    for arguments in given:
        assert (ROOT / _parse(shlex.split(arguments, comments=True)).sweep).is_file()


def test_links_lead_to_files_of_the_repository() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", GUIDE):
        assert (ROOT / "docs" / target).exists(), target


def test_kubernetes_is_given_a_cluster_with_the_token_everywhere() -> None:
    (text,) = blocks("yaml")
    cluster = yaml.safe_load(text)
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    ours = read(
        dict.fromkeys(("POSTGRES_PASSWORD", "RAY_AUTH_TOKEN", "GRAFANA_PASSWORD"), "x"), BASE
    )
    tag = ours["services"]["ray-head"]["image"].partition(":")[2]
    for group in groups:
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        variables = {v["name"]: v for v in container["env"]}
        assert variables["RAY_AUTH_MODE"]["value"] == "token"
        assert "secretKeyRef" in variables["RAY_AUTH_TOKEN"]["valueFrom"]
        assert container["image"].endswith(f":{tag}")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
