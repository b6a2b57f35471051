"""The report's "SN": spectral normalisation of a convolution, as a rescaling of its output.

Shape legend: B batch, C output channels of the convolution, N its weights per output channel
(in channels x kernel height x kernel width), H x W map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcore.config.schema.norm import Act
from detcore.layers.activation import activate_

FLOOR = 1e-6
"""No sigma is smaller: far below that of any layer that does something."""


class SpectralNormAct(nn.Module):
    """y = gamma * (W * x) / sigma(W) + beta, then the activation. Called with the convolution's
    output W * x (B x C x H x W, dtype kept; the convolution has no bias) and its weight W.

    sigma is the largest singular value of W as a matrix C x N, estimated by one power iteration
    (Miyato et al. 2018, algorithm 1) per training forward, in float32. The iteration's vectors u
    and v have no gradient; sigma = u W v has one through W. Evaluation uses the sigma stored by the
    last training forward, and 1 before there was one. With W = 0 u stays and sigma is FLOOR, so
    that the layer goes on once W is no longer 0.

    The report's form differs from the paper's in three ways: it scales the output, not the weight
    (the same map, but layers that share W each keep their own u and sigma), it has gamma and beta,
    and its beta starts at 1. The paper normalises W alone. How the report draws the first u is not
    known; here it is the same normal draw in every layer and every seed.
    """

    u: Tensor
    sigma: Tensor

    def __init__(self, channels: int, act: Act, beta: float) -> None:
        super().__init__()
        self.act = act
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.full((channels,), float(beta)))
        own = torch.Generator().manual_seed(0)  # building a layer leaves the global state alone
        u = torch.randn(channels, generator=own, device="cpu")
        self.register_buffer("u", F.normalize(u, dim=0))
        self.register_buffer("sigma", torch.ones(()))

    def forward(self, y: Tensor, weight: Tensor) -> Tensor:
        sigma = self._iterate(weight) if self.training else self.sigma
        scale = (self.weight / sigma).view(-1, 1, 1)
        return activate_((y * scale).add_(self.bias.view(-1, 1, 1)).to(y.dtype), self.act)

    def _iterate(self, weight: Tensor) -> Tensor:
        """One power iteration on W; stores u and sigma, gives sigma with its gradient."""
        matrix = weight.flatten(1).to(self.u.dtype)
        with torch.autocast(weight.device.type, enabled=False):
            with torch.no_grad():
                v = F.normalize(self.u @ matrix, dim=0)
                u = matrix @ v
                u = torch.where(u.any(), F.normalize(u, dim=0), self.u)
            sigma = (u @ matrix @ v).clamp(min=FLOOR)
        # u itself goes into the graph: a later forward of this step writes the buffer again
        with torch.no_grad():
            self.u.copy_(u)
            self.sigma.copy_(sigma)
        return sigma

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, act={self.act}"
