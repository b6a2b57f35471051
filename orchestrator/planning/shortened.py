"""A config for a few steps of the same training, as `--smoke` and `--probe` take them."""

from __future__ import annotations

from dataclasses import replace

from detcore.config import Config


def shortened(config: Config, steps: int) -> Config:
    """`config` with so many steps and one evaluation, at the end."""
    return replace(
        config,
        train=replace(config.train, steps=steps),
        # the rate of the first step of a warm-up, which is longer than this run
        optim=replace(config.optim, lr=config.optim.lr / max(config.schedule.warmup_steps, 1)),
        schedule=replace(config.schedule, warmup_steps=0),
        eval=replace(config.eval, every=0),
        monitor=replace(config.monitor, progress=()),
        runtime=replace(config.runtime, checkpoint_every=0),
    )
