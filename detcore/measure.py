"""Where the time and the memory of a run go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch


class Meter:
    """Seconds of training (evaluation not counted), images a second, and the share of time spent
    waiting for data."""

    def __init__(self, images_per_step: int) -> None:
        self.images_per_step = images_per_step
        self.begin = self.window_begin = time.perf_counter()
        self.end: float | None = None
        self.away = 0.0
        self.waited = self.window_waited = 0.0
        self.steps = self.window_steps = 0

    @property
    def seconds(self) -> float:
        return (self.end or time.perf_counter()) - self.begin - self.away

    @contextmanager
    def waiting(self) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.waited += time.perf_counter() - begin
        self.window_waited += time.perf_counter() - begin

    @contextmanager
    def paused(self) -> Iterator[None]:
        begin = time.perf_counter()
        try:
            yield
        finally:
            if self.end is None:
                self.away += time.perf_counter() - begin
                self.window_begin += time.perf_counter() - begin

    def step_done(self) -> None:
        self.steps += 1
        self.window_steps += 1

    def stop(self) -> None:
        self.end = time.perf_counter()

    def rates(self) -> dict[str, float]:
        """images_per_s and data_wait since the last call."""
        seconds = max(1e-9, time.perf_counter() - self.window_begin)
        rates = {
            "images_per_s": self.window_steps * self.images_per_step / seconds,
            "data_wait": self.window_waited / seconds,
        }
        self.window_begin, self.window_waited, self.window_steps = time.perf_counter(), 0.0, 0
        return rates

    def overall(self) -> dict[str, float]:
        seconds = max(1e-9, self.seconds)
        return {
            "images_per_s": self.steps * self.images_per_step / seconds,
            "data_wait": self.waited / seconds,
        }


class PeakMemory:
    """Peak memory since construction: of the CUDA device, or of this process without one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            # Linux: forget the old peak; elsewhere that of the whole process life is reported
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")

    def peak_gb(self) -> float:
        """In units of 1e9 bytes; 0 where the system does not tell."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        try:
            status = Path("/proc/self/status").read_text()
        except OSError:
            return 0.0
        peak = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(peak[0].split()[1]) * 1024 / 1e9 if peak else 0.0
