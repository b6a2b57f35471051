"""What is wrong with a node, from what it says and what the driver's process says of itself.
Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.cluster.node_facts import PACKAGE, Facts
from orchestrator.findings import Finding

MUST_AGREE = ("torch", "torchvision", "ray")
SHOULD_AGREE = ("numpy", "pillow", "pycocotools")
LITTLE_DISK = 5e9  # bytes; less is soon full of checkpoints


@dataclass(frozen=True)
class Answer:
    """`name` is the node's, as it begins a line; `trains`, whether a rank could lie on it;
    `problem` says why it gave no facts; `data` is in the order of `sources`, empty where none was
    asked for."""

    name: str
    resources: dict[str, float]
    trains: bool = True
    facts: Facts | None = None
    data: tuple[dict[str, str], ...] = ()
    problem: str = ""
    data_problem: str = ""


def findings(
    there: Answer, here: Answer, folder: str, sources: list[dict[str, Any]]
) -> list[Finding]:
    """What differs on a node from `here`, the driver's process; a line that all is well where
    nothing does. `folder` is that of the cells."""
    theirs, ours = there.facts, here.facts
    assert ours is not None, "this process can look at itself"
    if theirs is None:
        remedy = "look at its logs and disks, and take it out of the cluster until it answers"
        return [Finding("node", "failure", f"{there.name}: {there.problem}", remedy)]
    found = [*_package(there.name, theirs, ours)]
    if theirs["source"]:  # else nothing there can be asked
        found += _libraries(there.name, theirs, ours, there.trains)
    if there.trains:
        found += _storage(there.name, theirs, folder)
        if theirs["source"]:
            found += _data(there, here, sources)
    found += _gpus(there.name, theirs, there.resources)
    if not any(finding.level == "failure" for finding in found):
        found.insert(0, Finding("node", "ok", in_short(there)))
    return found


def in_short(answer: Answer) -> str:
    """A node that has answered, in a line."""
    facts = answer.facts
    assert facts is not None
    names = (PACKAGE, "torch", "ray")
    has = [f"{name} {facts['versions'][name]}" for name in names if name in facts["versions"]]
    cpus, gpus = (answer.resources.get(what, 0) for what in ("CPU", "GPU"))
    kinds = f" ({', '.join(dict.fromkeys(facts['gpus']))})" if facts["gpus"] else ""
    free = facts["free_bytes"]
    disk = "" if free is None else f"; {free / 1e9:.0f} GB free"
    size = f"{cpus:g} CPU{'s' * (cpus != 1)}, {gpus:g} GPU{'s' * (gpus != 1)}{kinds}"
    sha = facts["source"].get("sha256", "")[:8]
    return f"{answer.name}: {', '.join(has)}, Python {facts['python']}; source {sha}; " + (
        f"{size}{disk}"
    )


def _package(name: str, theirs: Facts, ours: Facts) -> Iterator[Finding]:
    version, own = (facts["versions"].get(PACKAGE, "") for facts in (theirs, ours))
    install = f"install {PACKAGE} {own} there, as on the driver's machine"
    if not theirs["source"]:
        what = f"{name}: {PACKAGE} is not installed in its Python {theirs['python']}"
        yield Finding("version", "failure", what, install)
    elif version and own and version != own:
        what = f"{name}: {PACKAGE} {version} there, {own} here"
        yield Finding("version", "failure", what, f"{install}, and start Ray there again")
    elif theirs["source"]["sha256"] != ours["source"]["sha256"]:
        places = f"{theirs['source']['place']} there, {ours['source']['place']} here"
        what = f"{name}: the source of {PACKAGE} is not the driver's ({places})"
        remedy = "bring both to the same commit, without changes, or install the same package"
        yield Finding("source", "failure", what, f"{remedy}; then start Ray there again")


def _libraries(name: str, theirs: Facts, ours: Facts, trains: bool) -> Iterator[Finding]:
    if _minor(theirs["python"]) != _minor(ours["python"]):
        what = f"{name}: Python {theirs['python']} there, {ours['python']} here"
        yield Finding("version", "failure", what, "use the same Python on all nodes")
    for library in (*MUST_AGREE, *SHOULD_AGREE):
        # of a build for a CPU and one for a GPU of the same version, the node chooses
        version, own = (
            facts["versions"].get(library, "none").partition("+")[0] for facts in (theirs, ours)
        )
        if version == own or (not trains and library != "ray"):
            continue
        what = f"{name}: {library} {version} there, {own} here"
        remedy = f"pip install {library}=={own} there, or the other version here"
        yield Finding("version", "failure" if library in MUST_AGREE else "warning", what, remedy)


def _storage(name: str, theirs: Facts, folder: str) -> Iterator[Finding]:
    if theirs["storage"]:
        what = f"{name}: the folder of cells {folder} {theirs['storage']} there"
        remedy = "start the sweep from a folder that every node has at the same path (NFS, Lustre)"
        yield Finding("storage", "failure", what, remedy)
    free = theirs["free_bytes"]
    if free is not None and free < LITTLE_DISK:
        what = f"{name}: {free / 1e9:.1f} GB free for {folder}"
        yield Finding("disk", "warning", what, "make room: a cell that fills the disk crashes")


def _data(there: Answer, here: Answer, sources: list[dict[str, Any]]) -> Iterator[Finding]:
    if there.data_problem:
        what = f"{there.name}: its data were not seen: {there.data_problem}"
        yield Finding("data", "failure", what, "look at the disk that holds them")
        return
    for source, theirs, ours in zip(sources, there.data, here.data, strict=True):
        if error := theirs.get("error"):
            what = f"{there.name}: data: {error}"
            remedy = (
                "put them there, or name their place with --data; on a cluster '$NAME/...' may "
                "have NAME set on every node, before its ray start"
            )
            yield Finding("data", "failure", what, remedy)
        elif "fingerprint" in ours and theirs["fingerprint"] != ours["fingerprint"]:
            prints = (print_[:13] for print_ in (theirs["fingerprint"], ours["fingerprint"]))
            what = "data {} are not the driver's ({} there, {} here)".format(
                source["root"], *prints
            )
            remedy = "copy the driver's data there: annotations and every image"
            yield Finding("data", "failure", f"{there.name}: {what}", remedy)


def _gpus(name: str, theirs: Facts, resources: dict[str, float]) -> Iterator[Finding]:
    counted, listed = int(resources.get("GPU", 0)), len(theirs["gpus"])
    if counted > listed:
        what = f"{name}: Ray counts {counted} GPUs, nvidia-smi lists {listed}"
        remedy = f"look at its driver (nvidia-smi), or start Ray there with --num-gpus {listed}"
        yield Finding("gpu", "warning", what, remedy)
    elif listed and not counted:
        what = f"{name}: it has {listed} GPUs, of which Ray counts none"
        yield Finding("gpu", "warning", what, f"start Ray there with --num-gpus {listed}")


def _minor(python: str) -> str:
    return ".".join(python.split(".")[:2])
