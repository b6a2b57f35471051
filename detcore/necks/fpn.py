"""Feature pyramid network (Lin et al. 2017) as RetinaNet uses it, with norm and activation on the
outputs.

Shape legend: B batch, C channels of the pyramid, h x w size of a level.
"""

from __future__ import annotations

from torch import Tensor, nn

from detcore.config import schema
from detcore.layers.conv import apply_norm_act, needs_bias, xavier_conv
from detcore.layers.dropblock import DropBlock
from detcore.layers.fusion import build_fusion
from detcore.layers.norm_act import build_norm_act
from detcore.necks.levels import enlarge


class Fpn(nn.Module):
    """P_i = norm_act(conv3x3(M_i)), where M_5 = lateral(C5) and M_i = fuse(nearest(M_{i+1}),
    lateral(C_i)). Laterals are 1 x 1 with a bias, without norm and activation.

    `top` p6p7: P6 comes from C5 and P7 from P6 (behind its activation), both by a stride-2
    convolution. `top` c6: C6, every second cell of C5, is one more input, and the path begins at
    M_6. `top` none ends at P5.

    DropBlock acts on what C3, C4 and C5 give to the laterals; P6 sees the clean C5. That C6 is
    taken from the clean C5 too, and not dropped itself, is our reading: the report does not say.
    """

    def __init__(self, cfg: schema.Fpn, in_channels: tuple[int, int, int]) -> None:
        super().__init__()
        self.top = cfg.top
        c, bias = cfg.channels, needs_bias(cfg.norm_act)
        inputs = in_channels if cfg.top != "c6" else (*in_channels, in_channels[-1])
        self.lateral = nn.ModuleList(xavier_conv(i, c, 1, bias=True) for i in inputs)
        self.output = nn.ModuleList(xavier_conv(c, c, 3, bias=bias) for _ in inputs)
        if cfg.top == "p6p7":
            self.p6 = xavier_conv(in_channels[-1], c, 3, stride=2, bias=bias)
            self.p7 = xavier_conv(c, c, 3, stride=2, bias=bias)
        self.norm_act = nn.ModuleList(build_norm_act(cfg.norm_act, c) for _ in range(cfg.levels))
        self.merge = nn.ModuleList(build_fusion(cfg.fusion, 2) for _ in inputs[1:])
        self.dropblock = None if cfg.dropblock is None else DropBlock(cfg.dropblock)

    def forward(self, features: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """(C3, C4, C5), each B x C_i x h x w -> [P3, P4, ...], each B x C x h x w."""
        c5 = features[-1]
        inputs = list(features)
        if self.dropblock is not None:
            inputs = [self.dropblock(x) for x in features]
        if self.top == "c6":
            inputs.append(c5[..., ::2, ::2])
        merged = [lateral(x) for lateral, x in zip(self.lateral, inputs, strict=True)]
        for i in reversed(range(len(self.merge))):
            merged[i] = self.merge[i]([enlarge(merged[i + 1], like=merged[i]), merged[i]])
        convs = list(zip(self.output, self.norm_act, strict=False))
        maps = [apply_norm_act(*layer, x) for layer, x in zip(convs, merged, strict=True)]
        if self.top == "p6p7":
            maps.append(apply_norm_act(self.p6, self.norm_act[3], c5))
            maps.append(apply_norm_act(self.p7, self.norm_act[4], maps[-1]))
        return maps
