"""The vision transformer: all crops of a step, whatever their sizes, go through it in one pass."""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from raddino.config import Config
from raddino.vit.attention import Shapes
from raddino.vit.block import NORM_EPS, Block, Kept
from raddino.vit.embedding import PatchEmbed, position_embedding


class VitConfig(Config):
    """Shape of the network. Defaults are RAD-DINO's ViT-B/14 at 518 px (model card of microsoft/rad-dino).

    Attributes:
        image_size: pixels; side of the square image whose patch grid the position embeddings hold.
        in_channels: 1 for grey input (the house's way), 3 for weights used as published.
        ffn: ``"mlp"``, or ``"swiglu"`` as in DINOv2 ViT-g.
        layerscale_init: initial gain of LayerScale.
        interpolate_offset: see :func:`raddino.vit.embedding.position_embedding`; 0 agrees with Transformers.
        interpolate_antialias: likewise.
        drop_path: share of samples that skip a residual branch in training, the same in every block.
    """

    embed_dim: int = Field(768, gt=0)
    depth: int = Field(12, gt=0)
    num_heads: int = Field(12, gt=0)
    patch_size: int = Field(14, gt=0)
    image_size: int = Field(518, gt=0)
    mlp_ratio: float = Field(4.0, gt=0)
    in_channels: Literal[1, 3] = 1
    num_register_tokens: int = Field(0, ge=0)
    layerscale_init: float = 1e-5
    ffn: Literal["mlp", "swiglu"] = "mlp"
    interpolate_offset: float = Field(0.0, ge=0)
    interpolate_antialias: bool = False
    drop_path: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _divisible(self) -> "VitConfig":
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is no multiple of num_heads {self.num_heads}")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}")
        return self


@dataclass(frozen=True)
class TokenFeatures:
    """Layer-normed output tokens of one group of images.

    Attributes:
        cls: (B, D)
        registers: (B, R, D)
        patches: (B, N, D), row-major
        grid: ``(rows, columns)`` with rows * columns = N
    """

    cls: Tensor
    registers: Tensor
    patches: Tensor
    grid: tuple[int, int]


class VisionTransformer(nn.Module):
    """A ViT whose parameter names are those of the official DINOv2 checkpoints."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        dim, native = config.embed_dim, config.image_size // config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + native * native, dim))
        if config.num_register_tokens:
            self.register_tokens = nn.Parameter(torch.zeros(1, config.num_register_tokens, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim))
        self.patch_embed = PatchEmbed(config.patch_size, config.in_channels, dim)
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio, config.ffn, config.layerscale_init)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)

    def init_weights(self, generator: torch.Generator | None = None) -> "VisionTransformer":
        """Fill all weights: normal with SD 0.02 for matrices and positions, 1e-6 for single tokens; zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.pos_embed, std=0.02, generator=generator)
        nn.init.normal_(self.cls_token, std=1e-6, generator=generator)
        if self.config.num_register_tokens:
            nn.init.normal_(self.register_tokens, std=1e-6, generator=generator)
        return self

    @property
    def leading(self) -> int:
        """Tokens of a sequence before its patches: the class token and the registers."""
        return 1 + self.config.num_register_tokens

    def forward(self, images: Tensor, mask: Tensor | None = None, depths: tuple[int, ...] = ()) -> TokenFeatures:
        """Features of one group: images (B, C, H, W), mask (B, N) boolean or None.

        With ``depths``, of unmasked images after as many blocks as each of its K numbers says, K * D wide.
        """
        if not depths:
            return self.forward_list([images], [mask])[0]
        found = self.intermediate(images, depths)
        cls, registers, patches = (
            torch.cat(parts, dim=-1)
            for parts in zip(*((one.cls, one.registers, one.patches) for one in found), strict=True)
        )
        return TokenFeatures(cls, registers, patches, found[0].grid)

    def forward_list(
        self, images: list[Tensor], masks: list[Tensor | None], generator: torch.Generator | None = None
    ) -> list[TokenFeatures]:
        """Features of several groups of images in one pass; arguments as for :meth:`token_list`."""
        tokens, shapes, grids = self.token_list(images, masks, generator)
        return self._split(self.norm(tokens), shapes, grids)

    def token_list(
        self, images: list[Tensor], masks: list[Tensor | None], generator: torch.Generator | None = None
    ) -> tuple[Tensor, Shapes, list[tuple[int, int]]]:
        """Tokens (T, D) of all groups one after another, before the final norm, with their shapes and grids.

        Args:
            images: groups (B_i, C, H_i, W_i); sizes may differ between groups.
            masks: per group (B_i, N_i) boolean, True where the mask token stands in, or None.
            generator: CPU generator of the stochastic depth (in training mode with ``drop_path`` > 0).
        """
        tokens, shapes, grids = self._embed(images, masks)
        for block in self.blocks:
            tokens = block(tokens, shapes, self._kept(shapes, generator, tokens.device))
        return tokens, shapes, grids

    def intermediate(self, images: Tensor, layers: int | tuple[int, ...]) -> list[TokenFeatures]:
        """Layer-normed features after each of the last ``layers`` blocks, or after as many blocks as each number says.

        The earliest come first. Blocks behind the last one asked for are not computed.
        """
        blocks = len(self.blocks)
        wanted = range(blocks - layers + 1, blocks + 1) if isinstance(layers, int) else layers
        tokens, shapes, grids = self._embed([images], [None])
        found = []
        for depth, block in enumerate(self.blocks[: max(wanted)], start=1):
            tokens = block(tokens, shapes)
            if depth in wanted:
                found += self._split(self.norm(tokens), shapes, grids)
        return found

    def cls_attention(self, images: Tensor) -> Tensor:
        """Attention of the class token to the patches in the last block, (B, heads, rows, columns), each >= 0."""
        tokens, shapes, grids = self._embed([images], [None])
        for block in self.blocks[:-1]:
            tokens = block(tokens, shapes)
        last = cast(Block, self.blocks[-1])
        weights = last.attn.weights(last.norm1(tokens), shapes[0])
        return weights[:, :, 0, self.leading :].unflatten(-1, grids[0])

    def _embed(self, images: list[Tensor], masks: list[Tensor | None]) -> tuple[Tensor, Shapes, list[tuple[int, int]]]:
        sequences, shapes, grids = [], [], []
        for group, mask in zip(images, masks, strict=True):
            grid = (group.shape[-2] // self.config.patch_size, group.shape[-1] // self.config.patch_size)
            patches = self.patch_embed(group)
            if mask is not None:
                patches = torch.where(mask[..., None], self.mask_token.to(patches.dtype), patches)
            positions = position_embedding(
                self.pos_embed, grid, self.config.interpolate_offset, self.config.interpolate_antialias
            )
            leading = [(self.cls_token + positions[:, :1]).expand(len(group), -1, -1)]
            if self.config.num_register_tokens:
                leading.append(self.register_tokens.expand(len(group), -1, -1))
            sequence = torch.cat([*leading, patches + positions[:, 1:]], dim=1)
            sequences.append(sequence.flatten(0, 1))
            shapes.append((sequence.shape[0], sequence.shape[1]))
            grids.append(grid)
        tokens = torch.cat(sequences)
        if torch.is_autocast_enabled(tokens.device.type):
            tokens = tokens.to(torch.get_autocast_dtype(tokens.device.type))
        return tokens, shapes, grids

    def _kept(
        self, shapes: Shapes, generator: torch.Generator | None, device: torch.device
    ) -> tuple[Kept, Kept] | None:
        rate = self.config.drop_path
        if not self.training or rate == 0.0:
            return None
        return Kept(shapes, rate, generator, device), Kept(shapes, rate, generator, device)

    def _split(self, tokens: Tensor, shapes: Shapes, grids: list[tuple[int, int]]) -> list[TokenFeatures]:
        leading = self.leading
        groups = tokens.split([batch * length for batch, length in shapes])
        features = []
        for group, (batch, length), grid in zip(groups, shapes, grids, strict=True):
            sequence = group.view(batch, length, -1)
            features.append(TokenFeatures(sequence[:, 0], sequence[:, 1:leading], sequence[:, leading:], grid))
        return features
