"""Copies are found whatever was done to them, and nothing else is."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import zoom
from scipy.stats import rankdata

from cloudy import picture
from raddino.images import likeness
from raddino.images.likeness import COPY, SIDE, descriptors, find_copies, from_text, thumbnail, to_text


def compressed(image: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=30)
    return np.asarray(Image.open(file))


CHANGES = {
    "same": lambda image: image,
    "resized": lambda image: zoom(image, (0.4, 0.55), order=1),
    "16 bits": lambda image: image.astype(np.uint16) * 257,
    "cropped": lambda image: image[20:-6, 3:-17],
    "cropped all around": lambda image: image[24:-24, 20:-20],
    "windowed": lambda image: (255 * (np.clip(image / 255, 0.1, 0.9) ** 1.8)).astype(np.uint8),
    "inverted": lambda image: 255 - image,
    "mirrored": lambda image: image[:, ::-1],
    "turned by 90": lambda image: np.rot90(image),
    "turned by 180": lambda image: np.rot90(image, 2),
    "turned by 270": lambda image: np.rot90(image, 3),
    "upside down": lambda image: image[::-1],
    "framed": lambda image: np.pad(image, ((30, 5), (0, 40))),
    "compressed": compressed,
    "all": lambda image: compressed(np.ascontiguousarray(255 - image[12:-8, 4:-9][:, ::-1])),
}


@pytest.fixture(scope="module")
def others() -> np.ndarray:
    return np.stack([thumbnail(picture(seed, (96, 80))) for seed in range(100, 250)])


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("copy_first", [False, True])
def test_a_copy_is_found_among_others(others, change, copy_first):
    pair = [thumbnail(picture(1)), thumbnail(CHANGES[change](picture(1)))]
    pair = pair[::-1] if copy_first else pair
    first, alike = find_copies(np.stack([pair[0], *others, pair[1]]))
    assert first[-1] == 0
    assert np.array_equal(first[:-1], np.arange(len(others) + 1))
    assert (alike > 0).tolist() == [True, *[False] * len(others), True]
    assert COPY <= alike[0] == alike[-1] <= 1.0001


def test_clusters_and_blocks_do_not_depend_on_where_they_are_cut(others, monkeypatch):
    copies = [thumbnail(CHANGES[change](picture(1))) for change in ("same", "windowed", "cropped")]
    thumbnails = np.concatenate([[copies[2]], others[:50], [copies[0]], others[50:], [copies[1]]])
    whole, alike = find_copies(thumbnails)
    assert whole[[0, 51, -1]].tolist() == [0] * 3
    monkeypatch.setattr(likeness, "BLOCK", 7)
    seen = []
    first, again = find_copies(thumbnails, advance=seen.append)
    assert np.array_equal(first, whole)
    assert np.allclose(again, alike, atol=1e-5)
    assert sum(seen) == len(thumbnails)


def test_a_copy_of_a_copy_belongs_to_the_cluster():
    image = picture(3)
    chain = [thumbnail(image[start:, : 200 - start]) for start in (0, 20, 40, 60)]
    first, _ = find_copies(np.stack(chain))
    assert first.tolist() == [0] * 4
    assert find_copies(np.stack([chain[0], chain[-1]]))[0].tolist() == [0, 1]


def test_pictures_of_one_grey_have_no_copies():
    flat = [thumbnail(np.full((40, 50), grey, np.uint8)) for grey in (0, 0, 200)]
    first, alike = find_copies(np.stack([*flat, thumbnail(picture(0))]))
    assert first.tolist() == [0, 1, 2, 3]
    assert not alike.any()


def test_none_and_one():
    none, alike = find_copies(np.zeros((0, SIDE, SIDE), np.uint8))
    assert len(none) == len(alike) == 0
    assert find_copies(thumbnail(picture(0))[None])[0].tolist() == [0]


def test_thumbnails_hold_ranks_of_means():
    image = picture(5, (SIDE * 4, SIDE * 3))
    means = image.reshape(SIDE, 4, SIDE, 3).mean((1, 3))
    expected = (rankdata(np.round(means / np.ptp(means) * 4095)) - 0.5) / means.size * 255
    assert np.abs(thumbnail(image).ravel() - expected.ravel()).max() <= 1


def test_no_monotone_map_changes_a_thumbnail_of_equal_cells():
    cells = np.random.default_rng(0).permutation(256)[np.arange(SIDE * SIDE) % 256].reshape(SIDE, SIDE)
    image = np.kron(cells, np.ones((3, 5), int)).astype(np.uint8)
    mapped = ((image / 255) ** 1.5 * 60000 + 9).astype(np.uint16)
    assert np.abs(thumbnail(image).astype(int) - thumbnail(mapped)).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (2, 2), (16, 3), (1000, 33)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_any_shape_has_a_thumbnail(shape, kind):
    image = np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)
    small = thumbnail(image)
    assert small.shape == (SIDE, SIDE)
    assert small.dtype == np.uint8
    length = np.linalg.norm(descriptors(small[None]))
    assert length == pytest.approx(1, abs=1e-5) or length == 0


def test_text_is_read_back_and_other_text_refused():
    small = thumbnail(picture(0))
    assert np.array_equal(from_text(to_text(small)), small)
    for wrong in ("", "AAAA", to_text(small)[:-4], "é" * 8):
        with pytest.raises(ValueError):  # noqa: PT011
            from_text(wrong)


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_chests_that_lie_are_not_copies_of_one_another(turns):
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    lungs = sum(np.exp(-(((x - side) / 0.3) ** 4) - (y / 0.7) ** 4) for side in (-0.45, 0.45))
    chest = 0.4 * np.exp(-((x / 0.15) ** 2)) + 0.3 * y - lungs
    chests = [chest + picture(seed, (96, 96)) / 510 for seed in range(30)]
    stored = [np.rot90(np.round(255 * (one - one.min()) / np.ptp(one)).astype(np.uint8), turns) for one in chests]
    thumbnails = np.stack([thumbnail(image) for image in stored])
    assert np.array_equal(find_copies(thumbnails)[0], np.arange(30))
    alike = likeness.likeness(descriptors(thumbnails)[:, None], descriptors(thumbnails))[np.triu_indices(30, 1)]
    assert (alike.max() >= COPY) == (turns == 1)  # which is why both are turned upright
