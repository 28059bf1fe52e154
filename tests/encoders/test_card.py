"""The model card: every field of the record, no claim beyond it, front matter that the hub reads."""

import re
from importlib.resources import files

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from raddino.encoders.base import Provenance
from raddino.encoders.card import Interface, model_card, sharing
from raddino.encoders.export_weights import timm_usage
from raddino.encoders.load import load_encoder
from raddino.encoders.preparation import Preparation
from raddino.vit import VisionTransformer, VitConfig

MODEL = VisionTransformer(
    VitConfig(embed_dim=16, depth=1, num_heads=2, patch_size=8, image_size=32, num_register_tokens=3)
)
PREPARATION = Preparation(40, 32, (0.5,), (0.25,), crop_start="down")
RECORD = Provenance(
    sources=["nih", "padchest"],
    supervision="self-supervised",
    licence="Apache-2.0",
    synthetic="mixed",
    corpora={"abc123": ["train", "val"]},
    revision="r7",
    sha256="f" * 64,
    note="Two | lines\nof note.",
)


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.split("---")[1])


def section(card: str, title: str) -> str:
    return card.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_card_tells_the_whole_record():
    card = model_card("small: one", MODEL, PREPARATION, RECORD)
    for word in ("nih, padchest", "from images alone", "some images", "`abc123`: train, val", "r7", "f" * 64):
        assert word in section(card, "Sources")
    assert "| Note | Two \\| lines of note. |" in card
    assert "3 registers" in card
    assert "research only" in section(card, "Limits")
    assert front_matter(card)["model_name"] == "small: one"
    assert front_matter(card)["library_name"] == "transformers"
    assert "tokens[:, 4:]" in section(card, "Use")
    assert "## Export" not in card
    assert "| Opset | 20 |" in section(model_card("a", MODEL, PREPARATION, RECORD, facts={"Opset": "20"}), "Export")


def test_preparation_is_what_the_stored_network_takes():
    three = section(model_card("a", MODEL, PREPARATION, RECORD), "Preparation")
    assert "shorter side to 40 px, bicubic" in three
    assert "central 32 x 32 px" in three
    assert "Subtract 0.5, divide by 0.25" in three
    assert "(B, 3, 32, 32)" in three
    graph = Interface("onnx", lambda shape: "", channels=1, normalises=True)
    one = section(model_card("a", MODEL, PREPARATION, RECORD, graph), "Preparation")
    assert "(B, 1, 32, 32)" in one
    assert "do not do it again" in one
    assert "Subtract" not in one


def test_odd_preparations_are_spelled_out():
    odd = Preparation((37, 37), None, (127.5,), (51.0,), "bilinear", maximum=255, float_resize=True)
    steps = section(model_card("a", MODEL, odd, RECORD), "Preparation")
    assert "to 37 x 37 px, bilinear, antialiased: in float32" in steps
    assert "Cut" not in steps
    assert "upper left 32 x 32" in steps
    assert "Subtract 0.5, divide by 0.2" in steps


def sixteen_bit_png(path):
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.random((9, 11)).astype(np.float32)).resize((170, 140), Image.Resampling.BICUBIC)
    image = (np.asarray(smooth).clip(0, 1) * 65535).astype(np.uint16)
    Image.fromarray(image).save(path)
    return image


def test_the_shipped_snippet_reads_16_bits_as_the_encoder_does(tmp_path):
    encoder = load_encoder("raddino-tiny", "cpu")
    folder = files("raddino") / "encoders/shipped/raddino-tiny"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card == model_card(encoder.name, encoder.model, encoder.preparation, encoder.provenance)
    assert "clips them at 255" in section(card, "Preparation")
    assert "8 or 16 bits" not in card
    file = tmp_path / "deep.png"
    image = sixteen_bit_png(file)
    with Image.open(file) as opened:
        assert opened.mode.startswith("I")
    run = {"folder": str(folder), "file": file}
    exec(section(card, "Use").split("```python\n")[1].split("```")[0], run)
    own = encoder.encode(encoder.preprocess([image]))
    assert torch.cosine_similarity(run["cls"], own.cls).item() > 0.999
    assert run["patches"].shape[1] == own.patches.flatten(1, 2).shape[1]


def test_only_cards_of_libraries_that_take_pil_images_speak_of_8_bits():
    graph = model_card("a", MODEL, PREPARATION, RECORD, Interface("onnx", lambda shape: "", channels=1))
    assert "8 or 16 bits" in section(graph, "Preparation")
    assert "255 or 65535" in section(graph, "Preparation")
    timm = model_card("a", MODEL, PREPARATION, RECORD, Interface("timm", timm_usage, pil=True))
    assert "raddino itself" not in timm
    assert 'image.mode.startswith("I")' in section(timm, "Use")


@pytest.mark.parametrize(
    ("licence", "gated", "may", "hub"),
    [
        ("Apache-2.0", False, True, "apache-2.0"),
        ("MIT", False, True, "mit"),
        ("MIT", True, False, "other"),
        ("PhysioNet Credentialed Health Data", False, False, "other"),
        ("CC-BY-NC-4.0", False, False, "other"),
        ("other", False, False, "other"),
        ("", False, False, "other"),
    ],
)
def test_only_known_free_licences_allow_sharing(licence, gated, may, hub):
    record = Provenance(licence=licence, gated=gated)
    assert ("Do not pass these weights on" in sharing(record)) is not may
    card = model_card("a", MODEL, PREPARATION, record)
    assert front_matter(card)["license"] == hub
    named = front_matter(card).get("license_name")
    assert named == (licence if hub == "other" and licence not in ("", "other") else None)


def test_what_is_not_known_is_not_claimed():
    unknown = model_card("a", MODEL, PREPARATION, Provenance(sources=None, supervision="text", synthetic=None))
    assert "| Data sets whose images were seen | not recorded |" in unknown
    assert "may have been among it" in unknown
    drawn = model_card("a", MODEL, PREPARATION, Provenance(sources=["synthetic"], synthetic=True))
    assert "nothing follows from that for real ones" in drawn
    fresh = model_card("a", MODEL, PREPARATION, Provenance())
    assert "not trained" in fresh
    assert not re.search(r"may have (been|seen)", fresh)
