"""The activations that may follow a norm."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from detcore.config.schema.norm import Act


def activate(x: Tensor, act: Act) -> Tensor:
    """relu, swish (x * sigmoid(x), torch's SiLU) or none, of a map of any shape. `none` gives x
    itself."""
    if act == "relu":
        return F.relu(x)
    return F.silu(x) if act == "swish" else x


def activate_(x: Tensor, act: Act) -> Tensor:
    """The same for a map that its maker keeps no second hold of: relu writes into it, which spares
    a map. Swish cannot: its gradient needs its input."""
    return F.relu_(x) if act == "relu" else activate(x, act)
