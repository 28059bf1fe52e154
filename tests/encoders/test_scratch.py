"""Untrained networks of timm: the same ones every time, and nothing seen."""

import numpy as np
import pytest
import torch

from raddino.benchmark.results import shown_name
from raddino.encoders.load import load_encoder
from raddino.errors import RaddinoError

timm = pytest.importorskip("timm")


def test_it_is_timms_network_with_the_same_random_weights_every_time():
    torch.manual_seed(5)
    one, again = (load_encoder("scratch:test_convnext", "cpu") for _ in range(2))
    assert one.fingerprint == again.fingerprint
    assert one.fingerprint != load_encoder("scratch:test_resnet", "cpu").fingerprint
    batch = one.preprocess([np.random.default_rng(0).integers(0, 256, (200, 180), dtype=np.uint8)])
    features = one.encode(batch)
    assert torch.equal(features.cls, again.encode(batch).cls)
    with torch.no_grad():
        assert torch.equal(features.cls, one.network.forward_head(one.network.forward_features(batch), pre_logits=True))
    assert (one.provenance.sources, one.provenance.supervision) == ([], "none")
    assert shown_name({"name": one.name, "provenance": one.provenance.to_dict()}) == f"{one.name} (random weights)"


def test_a_name_that_timm_does_not_know():
    with pytest.raises(RaddinoError, match="timm has no model 'convnet': give scratch:NAME"):
        load_encoder("scratch:convnet", "cpu")
