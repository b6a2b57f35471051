"""torchvision's MobileNetV3-Large and EfficientNet-B0, both made of inverted residual blocks with
squeeze and excitation, with the norm of the config.

The activations behind the norms are the architecture's own (ReLU and Hardswish, SiLU), so `act` of
the norm is not looked at; EvoNorm-S0, which contains its activation, takes their place. The report
ran TF's versions of both: other paddings (TF's SAME is not symmetric at stride 2), same taps.

Shape legend: B batch, H x W input size.
"""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import efficientnet_b0, mobilenet_v3_large

from detcore.backbones.norms import add_biases, contain_activations, norm_layer
from detcore.backbones.weights import load_weights
from detcore.config import schema


def build_mobilenet_v3(cfg: schema.MobileNetV3) -> nn.Module:
    """Howard et al. 2019. C3 and C4 are the last blocks of strides 8 and 16, C5 the 1 x 1 expansion
    behind the last block. Raises ValueError when the weights cannot be found or do not fit."""
    whole = mobilenet_v3_large(weights=None, norm_layer=norm_layer(cfg.norm_act))
    model = TappedFeatures(whole.features, (6, 12, 16), (40, 112, 960), cfg.norm_act)
    if cfg.weights != "none":
        load_weights(model, cfg, left_out=("classifier.",))
    return model


def build_efficientnet(cfg: schema.EfficientNet) -> nn.Module:
    """Tan & Le 2019. C3, C4, C5 are the last blocks of strides 8, 16 and 32; the 1 x 1 expansion
    behind them is left out with the classifier. Raises ValueError when the weights cannot be found
    or do not fit."""
    whole = efficientnet_b0(
        weights=None,
        norm_layer=norm_layer(cfg.norm_act),
        stochastic_depth_prob=cfg.drop_connect,
    )
    model = TappedFeatures(whole.features[:8], (3, 5, 7), (40, 112, 320), cfg.norm_act)
    if cfg.weights != "none":
        load_weights(model, cfg, left_out=("classifier.", "features.8."))
    return model


class TappedFeatures(nn.Module):
    """A torchvision network's `features`, under its keys; C3, C4, C5 are the outputs of the layers
    numbered `taps`."""

    def __init__(
        self,
        features: nn.Sequential,
        taps: tuple[int, int, int],
        channels: tuple[int, int, int],
        norm_act: schema.NormAct,
    ) -> None:
        super().__init__()
        self.features, self.taps, self.channels = features, taps, channels
        contain_activations(features, norm_act)
        add_biases(features, norm_act)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """B x 3 x H x W -> (C3, C4, C5) at H/8, H/16, H/32, sizes rounded up."""
        x, maps = images, []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in self.taps:
                maps.append(x)
        c3, c4, c5 = maps
        return c3, c4, c5
