"""A guard for the tests: a training step must never make the host wait for a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = {
    # reads a value
    "_local_scalar_dense",
    "_linalg_check_errors",
    "allclose",
    "equal",
    "histc",
    "multinomial",
    # the result's size is in the data
    "_unique",
    "_unique2",
    "bincount",
    "masked_select",
    "nms",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
    "unique_dim_consecutive",
}
"""By their names in aten and torchvision. What they call inside is hidden from the guard."""


class NoHostWait(TorchDispatchMode):
    """Refuses the operations that would stop the host if the tensors were on a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in WAITING or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            raise AssertionError(f"{func} waits for the GPU")
        if name in ("index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"):
            assert not any(i is not None and i.dtype == torch.bool for i in args[1]), "mask index"
        return func(*args, **kwargs)
