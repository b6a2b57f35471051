"""A guard for the tests: a training step must never make the host wait for a GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class NoHostWait(TorchDispatchMode):
    """Refuses the operations that would stop the host if the tensors were on a GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique"):
            raise AssertionError(f"{func} waits for the GPU")
        if name in ("index", "index_put", "index_put_"):
            assert not any(i is not None and i.dtype == torch.bool for i in args[1]), "mask index"
        return func(*args, **(kwargs or {}))
