"""How an attempt ended, told apart by evidence: what was raised, what Ray says of a process that is
gone, what the process wrote before it died, how long it was silent.

Everything here gives a fault as plain data: `outcome`, `reason` (one line), `traceback`, `time` and

    rank        whose it is, None for the whole gang
    final       another attempt would end in the same way: there is none
    secondhand  may be no more than the echo of what happened to another rank

No ray, no torch: exceptions are known by the names of their classes and by their text.
"""

from __future__ import annotations

import errno
import re
import shutil
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Fault = dict[str, Any]

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

MEMORY_TEXTS = (  # where no type says it
    "out of memory",  # CUDA error: out of memory; NCCL: Cuda failure 2 'out of memory'
    "cudaerrormemoryallocation",
    "status_alloc_failed",  # CUBLAS_, CUDNN_, CUSOLVER_, CUFFT: CUFFT_ALLOC_FAILED
    "cufft_alloc_failed",
    "defaultcpuallocator",  # torch's for the host, a plain RuntimeError
    "cannot allocate memory",
    "std::bad_alloc",
)
ECHOES = (  # a peer that is gone looks like this from the ranks that are left
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "socket closed",
    "ncclremoteerror",
    "remote process exited or there was a network error",
)
WAITED = (  # and a peer that hangs like this
    "timed out waiting",
    "collective operation timeout",
    "wait timeout after",
)


def fault(
    outcome: str,
    reason: str,
    *,
    trace: str = "",
    rank: int | None = None,
    final: bool = False,
    secondhand: bool = False,
) -> Fault:
    return {
        "outcome": outcome,
        "reason": " ".join(reason.split()),
        "traceback": trace,
        "rank": rank,
        "time": time.time(),
        "final": final,
        "secondhand": secondhand,
    }


# ---------------------------------------------------------------- a rank that says it itself


def of_exception(error: BaseException, rank: int, folder: Path | str = "") -> Fault:
    """What a rank raised; `folder` is where it writes."""
    trace = "".join(traceback.format_exception(error))
    said = f"{type(error).__name__}: {_first_line(error)}".rstrip(": ")
    chain = list(_chain(error))

    if any(_is_out_of_memory(e) for e in chain):
        return fault("oom", said, trace=trace, rank=rank)
    if place := next((p for e in chain if (p := _full_disk(e, folder))), ""):
        return fault("crashed", f"disk full at {place}: {said}", trace=trace, rank=rank)
    if isinstance(error, SystemExit):
        said = f"the training code ended its process with exit code {_exit_code(error)}"
        return fault("crashed", said, trace=trace, rank=rank)

    text = str(error).lower()
    if isinstance(error, RuntimeError | OSError) and any(s in text for s in WAITED):
        return fault("timeout", said, trace=trace, rank=rank, secondhand=True)
    echo = isinstance(error, RuntimeError | OSError) and any(s in text for s in ECHOES)
    if "killed by signal: killed" in text:  # torch, of a loader's process
        return fault("lost", said, trace=trace, rank=rank)
    # a ValueError is a mistake in data or settings, and stays one
    final = isinstance(error, ValueError)
    return fault("crashed", said, trace=trace, rank=rank, final=final, secondhand=echo)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, what was being handled when it was raised, and so on."""
    seen: set[int] = set()
    here: BaseException | None = error
    while here is not None and id(here) not in seen:
        seen.add(id(here))
        yield here
        here = here.__cause__ or (None if here.__suppress_context__ else here.__context__)


def _is_out_of_memory(error: BaseException) -> bool:
    # torch.OutOfMemoryError and Ray's have the same name; both mean it
    if any(c.__name__ in ("MemoryError", "OutOfMemoryError") for c in type(error).__mro__):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    is_native = isinstance(error, RuntimeError)
    return is_native and any(text in str(error).lower() for text in MEMORY_TEXTS)


def _full_disk(error: BaseException, folder: Path | str) -> str:
    """The place that has no room, as far as it is known; empty for any other error."""
    text = str(error)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return str(error.filename or folder or "an unknown place")
    if isinstance(error, RuntimeError) and "No space left on device" in text:
        named = re.search(r"file <([^>]+)>", text)  # torch's shared memory
        return f"/dev/shm{named[1]}" if named else str(folder or "an unknown place")
    # torch.save gives its own account of a write that failed, without the cause
    if isinstance(error, RuntimeError) and re.search(r"inline_container|StreamWriter", text):
        return str(folder) if folder and shutil.disk_usage(folder).free < 2**20 else ""
    return ""


def _exit_code(error: SystemExit) -> int:
    """What the process would have ended with (`sys.exit("text")` is 1)."""
    code = error.code
    return code if isinstance(code, int) else 0 if code is None else 1


def _first_line(error: BaseException) -> str:
    """The line that says most. What a loader's process raised begins with whose it was."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    if re.match(r"Caught \w+ in ", lines[0]):
        return f"{lines[-1].split(': ', 1)[-1]} ({lines[0].rstrip('.')})"
    return lines[0]


# ---------------------------------------------------------------- a rank that is gone


def of_death(error: BaseException, rank: int | None, words: str = "") -> Fault:
    """What an error of Ray's says of a rank that does not answer any more. `words`: see
    `orchestrator.cluster.last_words`; Ray cannot tell a kill from a crash."""
    who = "a worker" if rank is None else f"worker {rank}"
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):  # RayTaskError: it lives, and raised this
        return of_exception(cause, rank or 0)
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]

    if type(error).__name__ == "OutOfMemoryError":
        said = next((s for s in lines if "used" in s and "limit" in s), lines[0])
        where = said.partition("Memory on the node")[2]
        return fault("oom", f"{who} was killed, its node was short of memory{where}", rank=rank)
    if type(error).__name__ == "OutOfDiskError":
        return fault("crashed", f"{who}: disk full on its node: {lines[0]}", rank=rank)
    if "raised in its creation task" in lines[0]:
        out_of = any(t in lines[-1].lower() for t in (*MEMORY_TEXTS, "memoryerror"))
        trace = "\n".join(["Traceback (most recent call last):", *text.splitlines()[1:]])
        reason = f"{who} could not start: {lines[-1]}"
        return fault("oom" if out_of else "crashed", reason, trace=trace, rank=rank)
    if words:
        return fault("crashed", f"{who} {_how(words)}", trace=words, rank=rank)
    if "its node has died" in text:
        return fault("lost", f"{who}'s node died: {lines[-1].split(': ', 1)[-1]}", rank=rank)
    if "receives a SIGTERM" in text:
        return fault("lost", f"{who} was told to end (SIGTERM)", rank=rank)
    if code := re.search(r"exits with an exit code (.+?)\.?$", text, re.MULTILINE):
        number = code[1].replace("None", "0")  # sys.exit() without one
        return fault("crashed", f"{who} ended its process with exit code {number}", rank=rank)
    if any(t in text for t in ("connection error code 2", "connection closed unexpectedly")):
        reason = f"{who} was killed (SIGKILL), by hand, by a preemption or for want of memory"
        return fault("lost", reason, rank=rank)
    return fault("lost", f"{who} is gone: {lines[-1]}", rank=rank)


SIGNALS = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
}


def _how(words: str) -> str:
    """How a process ended that left last words."""
    first = words.strip().splitlines()[0]
    name = first.removeprefix("Fatal Python error: ")
    signal = SIGNALS.get(name)
    return f"crashed with {signal} ({name.lower()})" if signal else f"ended itself: {name}"


# ---------------------------------------------------------------- the gang


def of_silence(silent_s: float) -> Fault:
    """No step for longer than failure.hang_timeout_s."""
    return fault("timeout", f"no sign of life for {silent_s:.0f} s (failure.hang_timeout_s)")


def of_overrun(max_hours: float) -> Fault:
    """Longer than the sweep file allows; another attempt would be more of what is not allowed."""
    return fault("timeout", f"longer than {max_hours:g} hours (failure.max_hours)", final=True)


def first_cause(faults: Iterable[Fault]) -> Fault:
    """Of the faults of a gang's ranks, the one that the others follow from: the first that is not
    an echo. Where all are echoes, the connection between the ranks was lost."""
    first = min(faults, key=lambda f: (f.get("secondhand", False), f["time"]))
    if first.get("secondhand") and first["outcome"] == "crashed":
        return {**first, "outcome": "lost"}
    return first
