"""Feature pyramid network (Lin et al. 2017) as RetinaNet uses it, with norm and activation on the
outputs.

Shape legend: B batch, C channels of the pyramid, h x w size of a level.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.conv import xavier_conv
from detcore.layers.norm_act import build_norm_act


class Fpn(nn.Module):
    """P_i = norm_act(conv3x3(M_i)) for i = 3, 4, 5; P6 comes from C5 and P7 from P6, both by a
    stride-2 convolution.

    M5 = lateral(C5), M_i = lateral(C_i) + nearest(M_{i+1}). Laterals are 1 x 1 with a bias, without
    norm and activation.
    """

    def __init__(self, cfg: schema.Fpn, in_channels: tuple[int, int, int]) -> None:
        super().__init__()
        c = cfg.channels
        self.lateral = nn.ModuleList(xavier_conv(i, c, 1, bias=True) for i in in_channels)
        self.output = nn.ModuleList(xavier_conv(c, c, 3) for _ in in_channels)
        self.p6 = xavier_conv(in_channels[-1], c, 3, stride=2)
        self.p7 = xavier_conv(c, c, 3, stride=2)
        self.norm_act = nn.ModuleList(build_norm_act(cfg.norm_act, c) for _ in range(5))

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """(C3, C4, C5), each B x C_i x h x w -> [P3, ..., P7], each B x C x h x w."""
        m3, m4, m5 = (lateral(c) for lateral, c in zip(self.lateral, features, strict=True))
        m4 = m4 + F.interpolate(m5, size=m4.shape[-2:], mode="nearest")
        m3 = m3 + F.interpolate(m4, size=m3.shape[-2:], mode="nearest")
        convolved = [conv(m) for conv, m in zip(self.output, (m3, m4, m5), strict=True)]
        maps = [norm(x) for norm, x in zip(self.norm_act, convolved, strict=False)]
        maps.append(self.norm_act[3](self.p6(features[-1])))
        maps.append(self.norm_act[4](self.p7(maps[-1])))
        return maps
