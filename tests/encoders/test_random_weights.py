"""Every family's random weights load, embed, and are never taken for the published ones."""

import json

import pytest
import torch

from published import radiographs
from raddino.encoders.base import ENCODERS, Provenance
from raddino.encoders.load import load_encoder
from raddino.encoders.random_weights import WRITERS, write_random_weights
from raddino.encoders.weights import RANDOM_MARKER
from raddino.errors import RaddinoError

pytest.importorskip("timm")
pytest.importorskip("open_clip")
OTHERS = {"hf", "medsiglip", "xraysiglip"}
"""Any model, and SigLIP under other names."""


@pytest.mark.parametrize("name", WRITERS)
def test_each_loads_embeds_two_images_and_says_that_it_is_random(tmp_path, name):
    specs = write_random_weights(tmp_path, names=[name])
    (shown, spec), = specs.items()  # fmt: skip
    assert shown == f"{name}-random"
    encoder = load_encoder(spec, device="cpu")
    batch = encoder.preprocess(radiographs()[1:3])
    found = encoder.encode(batch)
    assert found.cls.shape == (2, encoder.dim)
    assert found.patches.shape == (2, *encoder.grid, encoder.dim)
    assert torch.isfinite(found.cls).all()
    assert torch.isfinite(found.patches).all()
    assert not torch.equal(found.cls[0], found.cls[1])
    family = ENCODERS[name]
    assert family.dim in (None, encoder.dim)
    assert family.side in (None, batch.shape[-1])
    record = encoder.provenance
    assert record == Provenance(sources=[], supervision="none", note="random weights", sha256=record.sha256)
    assert len(record.sha256) == 64
    if name in ("biomedclip", "chexzero"):
        text = encoder.encode_text(["pleural effusion", "no finding"])
        torch.testing.assert_close(text.norm(dim=-1), torch.ones(2))
        assert not torch.allclose(text[0], text[1])


def test_no_family_is_left_out():
    published = {name for name in ENCODERS if ENCODERS[name].home} - OTHERS
    assert set(WRITERS) <= published
    assert {name.split("-")[0] for name in published} == {name.split("-")[0] for name in WRITERS}


def test_the_seed_decides_and_the_caller_s_generator_is_left_alone(tmp_path):
    state = torch.random.get_rng_state()
    specs = [write_random_weights(tmp_path / str(i), seed, ["timm"])["timm-random"] for i, seed in enumerate((0, 0, 1))]
    assert torch.equal(torch.random.get_rng_state(), state)
    first, second, third = (load_encoder(spec, device="cpu").fingerprint for spec in specs)
    assert first == second != third
    assert json.loads((tmp_path / "2/timm" / RANDOM_MARKER).read_text(encoding="utf-8"))["seed"] == 1


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(RaddinoError, match="no random weights of 'hog'"):
        write_random_weights(tmp_path, names=["hog"])
