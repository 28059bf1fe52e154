"""BioViL-T against hi-ml-multimodal's own image model and preprocessing."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from published import check_missing, check_refusals, radiographs, shaken
from raddino.encoders.load import load_encoder

pytest.importorskip("health_multimodal")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from health_multimodal.image.data.io import remap_to_uint8
    from health_multimodal.image.data.transforms import create_chest_xray_transform_for_inference
    from health_multimodal.image.model.model import ImageModel


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    torch.manual_seed(0)
    network = shaken(ImageModel("resnet50_multi_image", joint_feature_size=128))
    file = tmp_path_factory.mktemp("biovil") / "biovil_t_image_model_proj_size_128.pt"
    torch.save(network.state_dict(), file)
    return network, file


def test_same_features_as_the_original(published):
    network, file = published
    encoder = load_encoder(f"biovil-t:{file}", device="cpu")
    theirs = create_chest_xray_transform_for_inference(resize=512, center_crop_size=448)
    images = [*radiographs()[:3], radiographs()[3].astype(np.uint16) * 31 + 9]
    batch = torch.stack([theirs(Image.fromarray(remap_to_uint8(image)).convert("L")) for image in images])
    torch.testing.assert_close(encoder.preprocess(images), batch, rtol=0, atol=1e-6)
    ours = encoder.encode(encoder.preprocess(images))
    with torch.no_grad():
        found = network(batch)
    torch.testing.assert_close(ours.cls, found.img_embedding, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.patches.permute(0, 3, 1, 2), found.patch_embeddings, rtol=1e-4, atol=1e-4)
    assert (encoder.dim, encoder.grid) == (512, (14, 14))
    assert encoder.provenance.sources == ["mimic-cxr"]


def test_what_is_not_biovil_t_is_refused(published, tmp_path, monkeypatch):
    encoder = load_encoder(f"biovil-t:{published[1].parent}", device="cpu")
    flat = encoder.preprocess([np.full((40, 30), 77, np.uint8)])
    assert not flat.any()
    check_refusals(lambda place: load_encoder(f"biovil-t:{place}"), encoder, published[1], tmp_path, monkeypatch)
    check_missing("biovil-t", tmp_path, monkeypatch, "huggingface.co/microsoft/BiomedVLP-BioViL-T")
