"""Pixels to patch tokens, and position embeddings at any grid."""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear


class PatchEmbed(nn.Module):
    """Non-overlapping patches, each mapped by one matrix (DINOv2's strided convolution as a product)."""

    def __init__(self, patch_size: int, in_channels: int, dim: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, H/P * W/P, D), row-major.

        Raises:
            ValueError: H or W is no multiple of the patch size, or C is not what the weights take.
        """
        batch, channels, height, width = images.shape
        size = self.patch_size
        if height % size or width % size:
            raise ValueError(f"image size {height}x{width} is no multiple of the patch size {size}")
        if channels != self.proj.in_channels:
            raise ValueError(f"got {channels} channels, the patch embedding takes {self.proj.in_channels}")
        patches = images.view(batch, channels, height // size, size, width // size, size)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * size * size)
        return linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def position_embedding(
    pos_embed: Tensor, grid: tuple[int, int], offset: float = 0.0, antialias: bool = False
) -> Tensor:
    """Position embeddings for a patch grid, by torch's bicubic interpolation of the native square one.

    Its kernel has a = -0.75, antialiased a = -0.5.

    Args:
        pos_embed: (1, 1 + M * M, D), the class token's first.
        grid: ``(rows, columns)`` wanted; at the native grid the embeddings are used as they are.
        offset: with 0 the target size is passed (Transformers' Dinov2); otherwise the scale is
            ``(n + offset) / M`` (official DINOv2 without registers: 0.1).
        antialias: low-pass when shrinking (official DINOv2 with registers: True).

    Returns:
        (1, 1 + rows * columns, D)
    """
    native = round((pos_embed.shape[1] - 1) ** 0.5)
    if grid == (native, native):
        return pos_embed
    patches = pos_embed[:, 1:].reshape(1, native, native, -1).permute(0, 3, 1, 2)
    patches = patches if patches.dtype == torch.float64 else patches.float()
    if offset:
        scale = ((grid[0] + offset) / native, (grid[1] + offset) / native)
        patches = interpolate(patches, scale_factor=scale, mode="bicubic", antialias=antialias)
    else:
        patches = interpolate(patches, size=grid, mode="bicubic", antialias=antialias)
    return torch.cat([pos_embed[:, :1], patches.flatten(2).transpose(1, 2).to(pos_embed.dtype)], dim=1)
