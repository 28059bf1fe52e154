"""The projection head: an MLP, a unit-length bottleneck, and weight-normed prototypes."""

from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import normalize

from raddino.config import Config
from raddino.vit.linear import linear

NORMALIZE_EPS = 1e-12


class HeadConfig(Config):
    """Shape of a head. Defaults are RAD-DINO's (768 -> 2048 -> 2048 -> 256 -> 65,536)."""

    prototypes: int = Field(65536, gt=1, le=2**24)
    hidden: int = Field(2048, gt=0, le=2**16)
    bottleneck: int = Field(256, gt=0, le=2**16)
    layers: int = Field(3, ge=1, le=2**6)


class Prototypes(nn.Module):
    """Linear layer without bias whose rows are ``weight_g * weight_v / |weight_v|``."""

    def __init__(self, dim: int, prototypes: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(prototypes, 1))
        self.weight_v = nn.Parameter(torch.zeros(prototypes, dim))

    def forward(self, x: Tensor) -> Tensor:
        """(B, dim) to logits (B, prototypes)."""
        weight = self.weight_v * (self.weight_g / self.weight_v.norm(dim=1, keepdim=True))
        return functional.linear(x, weight)


class ProjectionHead(nn.Module):
    """DINO / iBOT head; parameter names are DINOv2's (``mlp.0``, ``mlp.2``, ..., ``last_layer.weight_g``)."""

    def __init__(self, dim: int, config: HeadConfig) -> None:
        super().__init__()
        widths = [dim, *[config.hidden] * (config.layers - 1), config.bottleneck]
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Linear(narrow, wide), nn.Identity()]  # the names count the GELU, which the product does
        self.mlp = nn.Sequential(*layers[:-1]) if config.layers > 1 else layers[0]
        self.last_layer = Prototypes(config.bottleneck, config.prototypes)

    def init_weights(self, generator: torch.Generator | None = None) -> "ProjectionHead":
        """Fill all weights: normal with SD 0.02, zero biases, prototypes uniform in direction with gain 1."""
        for module in self.mlp.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
                nn.init.zeros_(module.bias)
        nn.init.kaiming_uniform_(self.last_layer.weight_v, a=5**0.5, generator=generator)
        nn.init.ones_(self.last_layer.weight_g)
        return self

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, dim) to prototype logits (B, prototypes), before any temperature."""
        linears = [layer for layer in self.mlp.modules() if isinstance(layer, nn.Linear)]
        x = tokens
        for layer in linears[:-1]:
            x = linear(x, layer, activation="gelu")
        return self.last_layer(normalize(linear(x, linears[-1]), dim=-1, eps=NORMALIZE_EPS))
