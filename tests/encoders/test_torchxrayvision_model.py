"""TorchXRayVision's DenseNet against the library itself, read from whole pickled modules in old and new form."""

import numpy as np
import pytest
import torch
from torch import nn

from published import check_missing, check_refusals, radiographs, shaken
from raddino.encoders.load import load_encoder
from raddino.errors import RaddinoError

xrv = pytest.importorskip("torchxrayvision")
NAME = "densenet121-res224-all"
FILE = "nih-pc-chex-mimic_ch-google-openi-kaggle-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """As released: the module itself, in the format that torch wrote before 1.6, sources quoted."""
    torch.manual_seed(0)
    network = shaken(xrv.models.DenseNet(num_classes=18))
    file = tmp_path_factory.mktemp("xrv") / FILE
    torch.save(network, file, _use_new_zipfile_serialization=False)
    return network, file


def test_same_features_as_the_library(published):
    network, file = published
    encoder = load_encoder(f"{NAME}:{file}", device="cpu")
    images = [*radiographs()[:3], radiographs()[3].astype(np.uint16) * 200]
    crop, resize = xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(224)
    batch = torch.stack(
        [
            torch.from_numpy(resize(crop(xrv.utils.normalize(image, np.iinfo(image.dtype).max)[None])))
            for image in images
        ]
    )
    torch.testing.assert_close(encoder.preprocess(images), batch, rtol=0, atol=2e-3)
    ours = encoder.encode(encoder.preprocess(images))
    with torch.no_grad():
        pooled, found = network.features2(batch), network.features(batch).relu()
    scale = found.abs().max()
    torch.testing.assert_close(ours.cls, pooled, rtol=1e-4, atol=1e-4 * scale)
    torch.testing.assert_close(ours.patches.permute(0, 3, 1, 2), found, rtol=1e-4, atol=1e-4 * scale)
    assert (encoder.dim, encoder.grid) == (1024, (7, 7))
    assert "nih" in encoder.provenance.sources


def test_the_library_itself_loads_the_same_file(published, tmp_path):
    network, file = published
    (tmp_path / FILE).symlink_to(file)
    theirs = xrv.models.DenseNet(weights=NAME, cache_dir=f"{tmp_path}/")
    for name, tensor in theirs.features.state_dict().items():
        torch.testing.assert_close(tensor, network.features.state_dict()[name])


def test_new_pickles_and_state_dicts_give_the_same_encoder(published, tmp_path):
    network, file = published
    image = radiographs()[:1]
    first = load_encoder(f"{NAME}:{file}", device="cpu")
    expected = first.encode(first.preprocess(image)).cls
    for number, content in enumerate((network, network.state_dict())):
        torch.save(content, tmp_path / f"{number}.pt")
        other = load_encoder(f"{NAME}:{tmp_path / f'{number}.pt'}", device="cpu")
        torch.testing.assert_close(other.encode(other.preprocess(image)).cls, expected)


def test_it_is_found_where_the_library_downloads_it(published, tmp_path, monkeypatch):
    cache = tmp_path / ".torchxrayvision/models_data"
    cache.mkdir(parents=True)
    (cache / FILE).symlink_to(published[1])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_encoder(NAME, device="cpu").dim == 1024


def test_other_modules_and_code_are_refused(published, tmp_path, monkeypatch):
    encoder = load_encoder(f"{NAME}:{published[1]}", device="cpu")
    check_refusals(lambda place: load_encoder(f"{NAME}:{place}"), encoder, published[1], tmp_path, monkeypatch)
    other = tmp_path / "other.pt"
    torch.save(nn.Sequential(nn.Linear(3, 3)), other)
    with pytest.raises(RaddinoError, match="weights of another network"):
        load_encoder(f"{NAME}:{other}")
    torch.save(nn.Sequential(nn.GELU()), other)
    with pytest.raises(RaddinoError, match="refused"):
        load_encoder(f"{NAME}:{other}")
    check_missing("densenet121-res224-nih", tmp_path / "home", monkeypatch, "github.com/mlmed/torchxrayvision")
