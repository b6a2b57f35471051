"""The name of a cell: a hash of what decides its result."""

from __future__ import annotations

import hashlib
import json

from detcore.config import CODE_VERSION, Config, identity_dict, to_dict


def cell_id(config: Config, data_fingerprint: str) -> str:
    """12 hex digits (48 bits) from the config and its seed, the data's content, the code version.

    `runtime`, resources, names and notes are not in it, nor where the data lies: sweeps that share
    an arm share its id.
    """
    return _digest([CODE_VERSION, data_fingerprint, config.seed, identity_dict(config)])


def arm_key(config: Config) -> str:
    """Equal for two configs that train the same thing apart from the seed. Two folders of data
    count as different here, before anyone has looked into them."""
    rest = {k: v for k, v in identity_dict(config).items() if k != "seed"}
    return _digest([rest, to_dict(config.data.source)])


def _digest(content: object) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
