"""The U-Net's place among the encoders: a name, what it needs, and a plain word to whoever asks it for features."""

import importlib.util

import numpy as np
import pytest
import torch

from memory_corpus import toy_corpus
from raddino.encoders.load import describe_encoders, load_encoder
from raddino.errors import RaddinoError
from raddino.features.extract import embed


def test_it_is_loaded_by_name_and_says_what_it_is():
    first, second = (load_encoder("unet", device="cpu") for _ in range(2))
    assert first.supervised
    assert first.grid is None
    assert first.fingerprint == second.fingerprint
    assert (first.provenance.supervision, first.provenance.sources) == ("none", [])
    with pytest.raises(RaddinoError, match="leave out the part after the colon"):
        load_encoder("unet:somewhere")


def test_it_has_no_features(tmp_path):
    encoder = load_encoder("unet")
    for ask in (lambda: encoder.encode(torch.zeros(1, 1, 8, 8)), lambda: encoder.preprocess([np.zeros((8, 8))])):
        with pytest.raises(
            RaddinoError, match=r"^unet is trained on masks; it has no features: use it on segmentation"
        ):
            ask()
    with pytest.raises(RaddinoError, match="trained on masks"):
        embed(toy_corpus(tmp_path, n=12), encoder)


def test_the_table_says_what_it_needs(monkeypatch):
    find = importlib.util.find_spec
    for needs in ("pip install 'raddino[seg]'", ""):
        there = {"segmentation_models_pytorch": None if needs else "found"}
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, t=there: t.get(name, find(name)))
        row = next(row for row in describe_encoders() if row["name"] == "unet")
        assert (row["needs"], row["dim"], row["side"], row["here"]) == (needs, "-", "-", True)
