"""What is laid over a sweep file: a profile, the `--set` arguments, the user's data folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detcore.config import Config, nearest
from detcore.data.folder import DataError, data_root
from orchestrator.sweep.axes import Axis, Level, Write, check_config_path, leaves
from orchestrator.sweep.document import KEYS, Document, SweepError, lay, part, shown, split_argument
from orchestrator.sweep.notify import refuse_addresses

COMMAND_LINE = "command line"  # the first key of what is written there


def with_profile(document: Document, profile: str | None) -> Document:
    """The sweep without its `profiles`, the chosen one laid over it. All profiles are checked."""
    refuse_addresses(document, document.data)
    profiles = document.data.get("profiles", {})
    if not isinstance(profiles, dict):
        raise document.error(("profiles",), "must map names to parts of a sweep")
    choices = [key for key in KEYS if key not in ("version", "name", "profiles")]
    for name, body in profiles.items():
        at = ("profiles", str(name))
        if not isinstance(body, dict):
            raise document.error(at, f"must be a mapping, is {body!r}")
        for key in body:
            if key not in choices:
                hint = nearest(str(key), choices)
                raise document.error((*at, str(key)), f"{key!r} cannot stand in a profile; {hint}")
        refuse_addresses(document, body, at)
    if profile is not None and profile not in profiles:
        have = nearest(profile, [str(p) for p in profiles]) if profiles else "the file has none"
        raise SweepError(f"{document.where(('profiles',))}: unknown profile {profile!r}; {have}")
    data = {key: value for key, value in document.data.items() if key != "profiles"}
    plain = Document(data, document.origins)
    return plain if profile is None else lay(plain, part(document, ("profiles", profile)))


def with_arguments(
    document: Document, arguments: Sequence[str], data: Path | None
) -> tuple[Document, tuple[Write, ...]]:
    """The sweep changed by `--set`, and what is written into every cell's config at the end.

    An argument whose first key is a key of sweep files changes the sweep; any other is a config
    path. `data` comes first among the writes, so that `--set` can still name its annotation files.
    """
    writes = []
    if data is not None:
        document, write = _data_folder(document, data)
        writes.append(write)
    for argument in arguments:
        key, value = split_argument(argument)
        if key.split(".")[0] in KEYS:
            document = _change(document, argument, key, value)
        else:
            document, write = _config_write(document, argument, key, value)
            writes.append(write)
    return document, tuple(writes)


def _change(document: Document, argument: str, key: str, value: Any) -> Document:
    """One `--set` that changes the sweep itself."""
    words = key.split(".")
    keys = ["set", ".".join(words[1:])] if words[0] == "set" and len(words) > 1 else words
    who = f"--set {shown(argument)}"
    complaint = f"{who}: "
    if keys[0] in ("profiles", "version"):
        raise SweepError(f"{complaint}{keys[0]} cannot be set here")
    if keys[0] in ("axes", "derive") and len(keys) > 1:
        section = document.data.get(keys[0])
        have = [str(k) for k in section] if isinstance(section, dict) else []
        if keys[1] not in have:  # a new name would be used by nothing: it is a slip
            hint = nearest(keys[1], have) if have else f"it has no {keys[0]} at all"
            raise SweepError(f"{complaint}the sweep has no {'.'.join(keys[:2])}; {hint}")
    if keys[0] == "axes" and len(keys) > 3:
        raise SweepError(f"{complaint}give {'.'.join(keys[:3])} whole")
    nested: Any = value
    for word in reversed(keys):
        nested = {word: nested}
    spots = [tuple(keys[:end]) for end in range(len(keys) + 1)]
    over = Document(nested, dict.fromkeys(spots, who))
    refuse_addresses(over, over.data)
    return lay(document, over)


def _config_write(
    document: Document, argument: str, key: str, value: Any
) -> tuple[Document, Write]:
    top = [name for name in Config.__dataclass_fields__ if name != "seed"]
    first = key.split(".")[0]
    if first not in (*top, "seed"):
        choices = sorted([*top, *(k for k in KEYS if k not in ("version", "profiles"))])
        hint = nearest(first, choices)
        raise SweepError(f"--set {shown(argument)}: unknown key {first!r}; {hint}")
    at = (COMMAND_LINE, key)
    document = _with_origin(document, at, f"--set {argument}")
    try:
        check_config_path(document, at, key)
    except SweepError as error:
        raise SweepError(str(error).replace(f"{'.'.join(at)}: ", "")) from None
    return document, Write(key, value, at, f"--set {argument}")


def _data_folder(document: Document, folder: Path) -> tuple[Document, Write]:
    try:
        here = data_root(str(folder))
    except DataError as error:
        raise SweepError(str(error).replace("data.source.root", "--data")) from None
    if not here.is_dir():
        what = "is not a folder" if here.exists() else "no such folder"
        is_here = f" ({here})" if here != folder else ""
        raise SweepError(f"--data {folder}: {what}{is_here}")
    at = (COMMAND_LINE, "data.source")
    if here == folder:
        root = folder.resolve()
    else:  # it may be another folder on each node
        root = folder if str(folder)[0] in "$~" else folder.absolute()
    source = {"kind": "coco", "root": str(root)}
    document = _with_origin(document, at, f"--data {folder}")
    return document, Write("data.source", source, at, f"--data {folder}")


def _with_origin(document: Document, at: tuple[str, ...], origin: str) -> Document:
    return Document(document.data, {**document.origins, at: origin})


# ---------------------------------------------------------------- who writes what


def is_data(write: Write) -> bool:
    """Whether this is the user's data folder, which replaces all that the base says of a source."""
    return write.who.startswith("--data ")


def is_replaced(write: Write, overrides: Sequence[Write]) -> bool:
    """Whether the command line takes the place of this entry of `set`."""
    mine = leaves(write.path, write.value)
    for over in overrides:
        if is_data(over):
            if all(f"{leaf}.".startswith("data.source.") for leaf in mine):
                return True
        elif mine <= leaves(over.path, over.value):
            return True
    return False


def check_collisions(
    document: Document, axes: Sequence[Axis], writes: Sequence[Write], overrides: Sequence[Write]
) -> None:
    """No setting is written twice by axes and `set`; none that an axis varies is overridden."""
    by_axis: dict[str, str] = {}
    for axis in (a for a in axes if a.when is None):
        by_axis |= _claimed(document, axis, by_axis)
    always = dict(by_axis)
    for axis in (a for a in axes if a.when is not None):  # two of these may exclude each other
        by_axis |= _claimed(document, axis, always)
    taken = dict(by_axis)
    for write in writes:
        for leaf in sorted(leaves(write.path, write.value)):
            if leaf in taken:
                raise document.error(write.at, _twice(leaf, taken[leaf], write.who))
            taken[leaf] = f"set {write.path}"
    for write in overrides:
        written = leaves(write.path, write.value)
        for leaf, axis_name in sorted(by_axis.items()):
            if any(leaf == w or leaf.startswith(f"{w}.") for w in written):
                raise SweepError(f"{write.who}: {_twice(leaf, axis_name, 'this argument')}")


def check_conditional(document: Document, levels: Iterable[Level]) -> None:
    """No setting is written twice by the axes of one arm: conditional axes may write the same one
    if no arm has both."""
    taken: dict[str, str] = {}
    for write in (w for level in levels for w in level.writes):
        for leaf in leaves(write.path, write.value):
            if taken.setdefault(leaf, write.who) != write.who:
                raise document.error(write.at, _twice(leaf, taken[leaf], write.who))


def _claimed(document: Document, axis: Axis, taken: Mapping[str, str]) -> dict[str, str]:
    """The settings that an axis writes; an error if one is `taken`."""
    mine: dict[str, str] = {}
    for write in (w for level in axis.levels for w in level.writes):
        for leaf in sorted(leaves(write.path, write.value)):
            if leaf in taken:
                raise document.error(write.at, _twice(leaf, taken[leaf], write.who))
            mine[leaf] = write.who
    return mine


def _twice(leaf: str, first: str, second: str) -> str:
    return f"{leaf} is written by {first} and by {second}"
