"""The square frame: bright squares are found where the geometry says, in what every family's network is given."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import grid_sample, interpolate
from torch.profiler import ProfilerActivity, profile
from transformers import SiglipConfig, SiglipModel

from memory_corpus import toy_corpus
from raddino.encoders import biovil_t, chexzero, resnet50, torchxrayvision_model
from raddino.encoders.depths import AtDepths
from raddino.encoders.floors import HOG
from raddino.encoders.load import load_encoder
from raddino.encoders.preparation import Preparation
from raddino.encoders.random_weights import write_random_weights
from raddino.errors import RaddinoError
from raddino.features.extract import embed
from raddino.tasks.segmentation.frame import Squared, square, square_bits, unsquare
from raddino.tasks.segmentation.targets import IGNORE
from raddino.tasks.segmentation.unet import unet_preparation
from transformers_folders import publish, radiograph

SHAPES = [(600, 600), (700, 420), (331, 800), (97, 61), (2001, 1500)]
PLACES = [(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.5, 0.5), (0.3, 0.8)]
THREE = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
PREPARATIONS = {
    "resnet50 232/224": (resnet50.PREPARATION, None),
    "biovil-t 512/448": (biovil_t.PREPARATION, None),
    "dinov2 256/224": (Preparation(256, 224, **THREE, crop_start="down"), None),
    "rad-dino 518/518": (Preparation(518, 518, **THREE, crop_start="down"), None),
    "siglip 384 squashed, patch 14": (Preparation((384, 384), None, **THREE), (378, 378)),
    "timm 235/224 squashed": (Preparation((235, 235), 224, **THREE, backend="pil"), None),
    "odd border": (Preparation(249, 224, **THREE, crop_start="down"), None),
    "crop and patches that do not fill it": (Preparation(256, 250, **THREE), (238, 238)),
    "crop larger than the image": (Preparation(200, 224, **THREE), None),
    "chexzero, letterboxed": (chexzero.PREPARATION, None),
    "torchxrayvision, cropped to a square": (torchxrayvision_model.PREPARATION, None),
    "unet": (unet_preparation(256), None),
}


class Prepared:
    """An encoder of which only the preparation matters."""

    name, dim, grid, fingerprint = "prepared", 1, (1, 1), "prepared-1"

    def __init__(self, preparation, covered):
        self.preparation, self.covered = preparation, covered or preparation.size

    def preprocess(self, images):
        return self.preparation("prepared", images)


def painted(shape, place, share=0.15):
    """A black image with a white square, and the square's edges (top, left, bottom, right) in pixels."""
    side = max(4, round(min(shape) * share))
    top, left = (round(at * (length - side)) for at, length in zip(place, shape, strict=True))
    image = np.zeros(shape, np.uint8)
    image[top : top + side, left : left + side] = 255
    return image, (top, left, top + side, left + side)


def found_square(batch, rows, columns):
    """Centre (y, x) and area of what is bright in a prepared image's part (rows, columns)."""
    grey = batch[0, 0, :rows, :columns].double()
    grey = ((grey - grey.min()) / (grey.max() - grey.min())).clamp(0, 1)
    grey = grey * (grey > 0.2)
    total = grey.sum()
    centres = [(grey.sum(1 - axis) * (torch.arange(grey.shape[axis]) + 0.5)).sum() / total for axis in (0, 1)]
    return [float(one) for one in centres], float(total)


def expected_square(edges, shape, margin, cells):
    """Centre and area by :func:`unsquare` itself: where its coordinate ramps reach the square's edges."""
    ramp = (torch.arange(cells, dtype=torch.float64) + 0.5).expand(cells, cells)
    down, across = (unsquare(one[None], *shape, margin)[0] for one in (ramp.T, ramp))
    top, left, bottom, right = edges
    box = down[top:bottom, left:right], across[top:bottom, left:right]
    return [float(one.mean()) for one in box]


@pytest.mark.parametrize("name", PREPARATIONS)
def test_a_painted_square_is_where_the_geometry_says(name):
    encoder = Squared(Prepared(*PREPARATIONS[name]))
    rows, columns = encoder.covered
    for shape in SHAPES:
        side = max(shape) * (224 / 200 if "larger" in name else 1)
        step = rows / side
        rounding = 1 + step  # borders are whole pixels of the image
        for place in PLACES:
            image, edges = painted(shape, place)
            (y, x), area = found_square(encoder.preprocess([image]), rows, columns)
            assert y == pytest.approx(((edges[0] + edges[2] - shape[0]) / 2 * step + rows / 2), abs=rounding)
            assert x == pytest.approx(((edges[1] + edges[3] - shape[1]) / 2 * step + columns / 2), abs=rounding)
            assert area == pytest.approx(((edges[2] - edges[0]) * step) ** 2, rel=0.12, abs=25)
            assert (y, x) == pytest.approx(expected_square(edges, shape, encoder.margin, rows), abs=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", ["rad-dino", "siglip-base", "resnet50", "timm"])
def test_loaded_families_show_the_square_to_their_networks(tmp_path, name, dtype):
    if name == "timm":
        pytest.importorskip("timm")
    (spec,) = write_random_weights(tmp_path, names=[name]).values()
    encoder = Squared(load_encoder(spec, device="cpu"))
    rows, columns = encoder.covered
    image, edges = painted((700, 420), (0.0, 1.0))
    image = image.astype(dtype) * (np.iinfo(dtype).max // 255)
    (y, x), _ = found_square(encoder.preprocess([image]), rows, columns)
    assert (y, x) == pytest.approx(expected_square(edges, image.shape, encoder.margin, rows), abs=1)
    assert encoder.fingerprint == f"{encoder.encoder.fingerprint}+square"


def test_columns_that_fill_no_patch_are_not_part_of_the_grid(tmp_path):
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = shape | {"vocab_size": 40, "max_position_embeddings": 16, "projection_size": 32}
    model = SiglipModel(SiglipConfig(text_config=text, vision_config=shape | {"image_size": 70, "patch_size": 16}))
    publish(tmp_path, model, None)
    encoder = load_encoder(f"siglip-base:{tmp_path}", device="cpu")
    assert (encoder.grid, encoder.covered) == ((4, 4), (64, 64))
    low, high = Squared(encoder).margin
    assert (low, high) == pytest.approx((0, 6 / 64))
    timm = pytest.importorskip("timm")
    network = timm.create_model("vit_tiny_r_s16_p8_224", num_classes=0)
    save_file(network.state_dict(), tmp_path / "hybrid.safetensors")
    hybrid = load_encoder(f"timm:vit_tiny_r_s16_p8_224@{tmp_path / 'hybrid.safetensors'}", device="cpu")
    assert hybrid.covered == hybrid.preparation.size


def test_patches_of_a_real_network_answer_where_the_image_is_bright(tmp_path):
    encoder = Squared(load_encoder("raddino-tiny", device="cpu"))
    for place in PLACES:
        image, (top, left, bottom, right) = painted((500, 300), place, 0.3)
        black, bright = (encoder.encode(encoder.preprocess([one])).patches[0] for one in (image * 0, image))
        changed = (bright - black).norm(dim=-1)[None]
        answer = unsquare(changed, 500, 300, encoder.margin)[0]
        inside = answer[top:bottom, left:right].mean()
        assert inside > 1.2 * answer.mean()


@pytest.mark.parametrize("margin", [1.0, 1.14, 512 / 448, (0.0, 6 / 378), (0.05, 0.11), 0.9])
@pytest.mark.parametrize("shape", [(600, 600), (333, 500), (500, 334), (41, 12)])
def test_unsquare_is_the_interpolated_whole_with_the_image_cut_out(shape, margin):
    logits = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    before, after = margin if isinstance(margin, tuple) else ((margin - 1) / 2,) * 2
    padded = square(np.ones(shape), margin)
    low = max(0, round(before * max(shape)))
    top, left = np.argwhere(padded)[0]
    assert padded.shape == (len(padded),) * 2
    assert (top - low, left - low) == tuple((max(shape) - length) // 2 for length in shape)
    extent = len(padded) / (1 + before + after)
    at = [
        (torch.arange(n).double() + o + 0.5 - extent * before) / extent * 2 - 1
        for n, o in zip(shape, (top, left), strict=True)
    ]
    places = torch.stack(torch.meshgrid(at[1], at[0], indexing="xy"), dim=-1)[None]
    expected = grid_sample(logits[None], places, padding_mode="border", align_corners=False)[0]
    torch.testing.assert_close(unsquare(logits, *shape, margin), expected)


def test_without_a_border_unsquare_is_interpolate_also_on_grids_that_are_not_square():
    logits = torch.randn(2, 9, 13)
    expected = interpolate(logits[None], (90, 90), mode="bilinear")[0]
    torch.testing.assert_close(unsquare(logits, 90, 90), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(unsquare(logits, 90, 40), expected[:, :, 25:65], rtol=0, atol=1e-5)
    torch.testing.assert_close(unsquare(torch.full((1, 1, 1), 3.0), 5, 7), torch.full((1, 5, 7), 3.0))


@pytest.mark.parametrize("margin", [1.0, 1.14, (0.0, 0.02)])
@pytest.mark.parametrize("shape", [(512, 512), (300, 512), (512, 211)])
def test_bits_go_to_the_square_and_back(shape, margin):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 8, (6, 6)).astype(np.int32)
    bits = np.kron(coarse, np.ones((90, 90), np.int32))[: shape[0], : shape[1]]
    seen = square_bits(bits, 256, margin)
    assert (seen.shape, seen.dtype) == ((256, 256), np.int32)
    outside = seen == IGNORE
    assert outside.mean() == pytest.approx(1 - shape[0] * shape[1] / 512**2, abs=0.01)
    back = sum(
        (unsquare(torch.from_numpy(((seen >> bit) & 1) * (~outside)).float()[None], *shape, margin)[0] > 0.5).int()
        << bit
        for bit in range(3)
    )
    assert (back.numpy() == bits).mean() > 0.97


def test_a_square_image_without_a_border_stays_as_it_is():
    image = radiograph((40, 40))
    assert square(image) is image
    assert np.array_equal(square_bits(image.astype(np.int32), 40), image)


def test_an_image_is_cut_out_before_it_is_enlarged():
    logits = torch.zeros(2, 64, 64)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        found = unsquare(logits, 3000, 250)
    assert found.shape == (2, 3000, 250)
    largest = max(event.cpu_memory_usage for event in profiled.key_averages())
    assert largest < 3000 * 3000 * 4


def test_what_has_no_square_is_refused():
    for wrong in (np.zeros((4, 4, 3)), np.zeros((0, 4))):
        with pytest.raises(RaddinoError, match="only an image"):
            square(wrong)
    for margin in (0.0, -1.0, float("nan"), (-0.6, 0.0)):
        with pytest.raises(RaddinoError, match="a margin is"):
            square(np.zeros((4, 4)), margin)
    with pytest.raises(RaddinoError, match="unequal borders"):
        Squared(Prepared(Preparation((256, 200), 200, **THREE), None))


def test_embedding_keeps_squared_features_apart_and_takes_depths_along(tmp_path):
    corpus = toy_corpus(tmp_path, n=6)
    encoder = load_encoder("raddino-tiny", device="cpu")
    plain = embed(corpus, encoder, cache=tmp_path / "cache", patches=True)
    squared = embed(corpus, Squared(encoder), cache=tmp_path / "cache", patches=True)
    deep = embed(corpus, Squared(AtDepths(encoder)), cache=tmp_path / "cache", patches=True)
    assert [one.encoder.removeprefix(plain.encoder) for one in (squared, deep)] == ["+square", "+depths1-2-3-4+square"]
    np.testing.assert_array_equal(squared.patches[:], plain.patches[:])  # the images are squares already
    assert deep.patches.shape == (*plain.patches.shape[:3], 4 * encoder.dim)
    assert (Squared(HOG()).margin, Squared(HOG()).name) == ((0.0, 0.0), "hog")
