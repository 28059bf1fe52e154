"""CheXzero against open_clip's reading of OpenAI's names and the steps of its own data preparation."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import Compose, InterpolationMode, Normalize, Resize

from published import check_missing, check_refusals, radiographs, shaken
from raddino.encoders.chexzero import PREPARATION
from raddino.encoders.load import load_encoder
from raddino.errors import RaddinoError

open_clip = pytest.importorskip("open_clip")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """``state_dict()`` of OpenAI's CLIP ViT-B/32, half precision to keep the file small."""
    torch.manual_seed(0)
    network = shaken(open_clip.create_model("ViT-B-32-quickgelu", pretrained=None, load_weights=False)).half()
    file = tmp_path_factory.mktemp("chexzero") / "best_64_5e-05_original_22000_0.864.pt"
    torch.save(network.state_dict(), file)
    return network.float(), file


@pytest.fixture(scope="module")
def encoder(published):
    return load_encoder(f"chexzero:{published[1].parent}", device="cpu")


def as_they_store_and_load(image: np.ndarray) -> torch.Tensor:
    """Longer side to 320, pasted on black, stored as 0-255 floats; normalised, then shrunk without antialiasing."""
    picture = Image.fromarray(image)
    ratio = 320.0 / max(picture.size)
    size = tuple(int(x * ratio) for x in picture.size)
    canvas = Image.new("L", (320, 320))
    canvas.paste(picture.resize(size, Image.LANCZOS), ((320 - size[0]) // 2, (320 - size[1]) // 2))
    steps = Compose(
        [
            Normalize((101.48761,) * 3, (83.43944,) * 3),
            Resize(224, interpolation=InterpolationMode.BICUBIC, antialias=False),
        ]
    )
    return steps(torch.from_numpy(np.repeat(np.array(canvas, np.float32)[None], 3, axis=0)))


def test_same_image_features_as_the_original(published, encoder):
    network, _ = published
    images = radiographs()
    batch = torch.stack([as_they_store_and_load(image) for image in images])
    torch.testing.assert_close(encoder.preprocess(images), batch, rtol=0, atol=1e-5)
    ours = encoder.encode(encoder.preprocess(images[1:3]))
    inner: list[torch.Tensor] = []
    hook = network.visual.ln_post.register_forward_hook(lambda *found: inner.append(found[2]))
    with torch.no_grad():
        projected = network.encode_image(batch[1:3], normalize=True)
    hook.remove()
    torch.testing.assert_close(ours.cls, inner[0][:, 0], rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.patches.flatten(1, 2), inner[0][:, 1:], rtol=0, atol=1e-4)
    torch.testing.assert_close(encoder.project(ours.cls), projected, rtol=0, atol=1e-4)
    assert (encoder.dim, encoder.grid) == (768, (7, 7))
    assert "mimic-cxr" in encoder.provenance.sources


def test_same_text_features_as_the_original(published, encoder):
    prompts = ["Pleural Effusion", "no pneumothorax, " * 60]
    tokens = open_clip.get_tokenizer("ViT-B-32-quickgelu")(prompts)
    with torch.no_grad():
        theirs = published[0].encode_text(tokens, normalize=True)
    torch.testing.assert_close(encoder.encode_text(prompts), theirs, rtol=0, atol=1e-4)
    assert encoder.logit_scale == pytest.approx(published[0].logit_scale.exp().item())
    with pytest.raises(RaddinoError, match="list of prompts"):
        encoder.encode_text([])


def test_black_and_white_edges_pass_and_sixteen_bits_agree(encoder):
    image = np.zeros((300, 200), np.uint8)
    image[100:200, 60:140] = 255
    eight, sixteen = (encoder.preprocess([i]) for i in (image, image.astype(np.uint16) * 257))
    assert eight.max() > (255 - 101.48761) / 83.43944
    assert torch.isfinite(encoder.encode(eight).cls).all()
    torch.testing.assert_close(eight, sixteen, rtol=0, atol=0.05)


def test_what_is_not_chexzero_is_refused(published, encoder, tmp_path, monkeypatch):
    check_refusals(lambda place: load_encoder(f"chexzero:{place}"), encoder, published[1], tmp_path, monkeypatch)
    check_missing("chexzero", tmp_path, monkeypatch, "github.com/rajpurkarlab/CheXzero")


@pytest.mark.parametrize("side", [224, 320, 901])
@pytest.mark.parametrize("block", [1, 4, 9])
def test_no_image_overshoots_the_values_that_are_accepted(side, block):
    coarse = np.random.default_rng(block).integers(0, 2, (side // block + 1,) * 2).astype(np.uint8) * 255
    PREPARATION.check("chexzero", PREPARATION("chexzero", [np.kron(coarse, np.ones((block, block), np.uint8))]))
