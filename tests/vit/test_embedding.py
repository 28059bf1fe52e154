"""Patches against torch's strided convolution; position embeddings against what interpolation must keep."""

import numpy as np
import pytest
import torch

from raddino.vit.embedding import PatchEmbed, position_embedding


def embedded(values: torch.Tensor, dim: int = 1) -> torch.Tensor:
    """(M, M) values as position embeddings (1, 1 + M * M, dim), the class token's -7."""
    return torch.cat(
        [torch.full((1, 1, dim), -7.0, dtype=values.dtype), values.reshape(1, -1, 1).expand(1, -1, dim)], 1
    )


def test_patches_are_those_of_a_strided_convolution():
    layer = PatchEmbed(4, 3, 10).double()
    images = torch.randn(2, 3, 12, 20, dtype=torch.float64)
    expected = layer.proj(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(layer(images), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("shape", "words"), [
    ((1, 3, 13, 20), "13x20 is no multiple"),
    ((1, 3, 12, 21), "12x21 is no multiple"),
    ((1, 1, 12, 20), "got 1 channels"),
])  # fmt: skip
def test_other_shapes_are_refused(shape, words):
    with pytest.raises(ValueError, match=words):
        PatchEmbed(4, 3, 10)(torch.zeros(shape))


def test_the_native_grid_is_used_as_it_is():
    native = torch.randn(1, 37, 5)
    assert position_embedding(native, (6, 6)) is native
    assert position_embedding(native, (6, 5)).shape == (1, 31, 5)
    assert position_embedding(native, (5, 6)).shape == (1, 31, 5)


def keys(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Weights of cubic convolution (Keys 1981)."""
    d = np.abs(distance)
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def cubic(native: int, number: int, offset: float) -> np.ndarray:
    """(number, native): each output lies at (i + 0.5) * native / (number + offset) - 0.5; the border goes on."""
    matrix = np.zeros((number, native))
    for i in range(number):
        at = (i + 0.5) * native / (number + offset) - 0.5
        for tap in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            matrix[i, min(max(tap, 0), native - 1)] += keys(np.array(at - tap))
    return matrix


@pytest.mark.parametrize("grid", [(14, 20), (9, 5), (3, 9), (2, 4)])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_interpolation_is_cubic_convolution_at_pixel_centres(offset, grid):
    values = torch.randn(9, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = position_embedding(embedded(values, dim=2), grid, offset)
    assert found.dtype == torch.float64
    assert (found[0, 0] == -7).all()
    expected = cubic(9, grid[0], offset) @ values.numpy() @ cubic(9, grid[1], offset).T
    for channel in range(2):
        np.testing.assert_allclose(found[0, 1:, channel].reshape(grid), expected, rtol=1e-9, atol=1e-9)


def test_shrinking_averages_only_when_it_is_asked_to():
    """The middle of every third column of alternating ones: itself, or near its surroundings' mean."""
    columns = (torch.arange(9) % 2 * 2.0 - 1).expand(9, 9)
    plain = position_embedding(embedded(columns), (3, 3))
    torch.testing.assert_close(plain[0, 1:4, 0], torch.tensor([1.0, -1.0, 1.0]))
    for offset in (0.0, 0.1):
        smooth = position_embedding(embedded(columns), (3, 3), offset, antialias=True)
        assert smooth[0, 1:, 0].abs().max() < 0.5


def test_half_precision_is_interpolated_in_float32():
    native = torch.randn(1, 37, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    found = position_embedding(native, (9, 7))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, position_embedding(native.float(), (9, 7)).bfloat16())
