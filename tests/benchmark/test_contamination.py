"""What an encoder saw of the test images: derived from its record, and declared."""

from pathlib import Path

import pandas as pd
import pytest

from raddino.arguments import several
from raddino.benchmark.contamination import GRAVITY, Tested, contamination, declare, recognised
from raddino.encoders import load as _load  # noqa: F401  (registers the families)
from raddino.encoders.base import ENCODERS, Provenance
from raddino.encoders.seen_images import SeenImages
from raddino.errors import ConfigError


def seen(sources, supervision="self-supervised", **more) -> Provenance:
    return Provenance(sources=sources, supervision=supervision, **more)


def word(provenance, source, fingerprint="f") -> str:
    return contamination(provenance, Tested([source], [fingerprint]))[source]


@pytest.mark.parametrize(
    ("corpora", "told"),
    [
        ({"f": ["train"]}, "held out"),
        ({"f": ["train", "val"]}, "held out"),
        ({"f": ["train", "test"]}, "image seen"),
        ({"f": ["train"], "g": ["train"]}, "image seen"),
        ({"g": ["train"]}, "image seen"),
        (None, "image seen"),
    ],
)
def test_other_splits_of_the_same_corpus_are_known_by_its_fingerprint(corpora, told):
    record = seen(["nih"], corpora=corpora)
    assert contamination(record, Tested(["nih", "other"], ["f"])) == {"nih": told, "other": "clean"}


@pytest.mark.parametrize(
    ("record", "source", "told"),
    [
        (seen(["openi"], "labels"), "iu-xray", "label seen"),
        (seen(["iu-xray"]), "Open-i", "image seen"),
        (seen(["vindr-cxr"]), "vindr-ribcxr", "image seen"),
        (seen(["vindr-ribcxr"]), "vindr-cxr", "partly seen"),
        (seen(["rsna-pneumonia"], "labels"), "nih", "partly seen"),
        (seen(["rsna-pneumonia"], "labels"), "siim-acr", "may be seen"),
        (seen(["mimic-cxr"], "text"), "MIMIC-CXR-JPG", "label seen"),
        (seen(["chexmask"]), "siim-acr", "image seen"),
        (seen(None, "unknown"), "nih", "unknown"),
        (seen([], "none"), "nih", "clean"),
        (seen(["a hospital"]), "A-Hospital", "image seen"),
        (ENCODERS["biomedclip"].provenance, "cohen", "may be seen"),
        (ENCODERS["rad-dino"].provenance, "cohen", "clean"),
        (ENCODERS["densenet121-res224-all"].provenance, "iu-xray", "label seen"),
        (ENCODERS["medsiglip"].provenance, "nih", "unknown"),
    ],
)
def test_sources_count_by_what_they_are_made_of(record, source, told):
    assert word(record, source) == told


def test_every_training_behind_the_weights_counts_and_the_gravest_word_is_said():
    own = {"f": ["train"]}
    unrecorded = seen(["nih"], corpora=own, before=[seen(None, "unknown")])
    assert contamination(unrecorded, Tested(["nih", "kermany"], ["f"])) == {"nih": "unknown", "kermany": "unknown"}
    assert contamination(unrecorded, Tested(["nih", "kermany"], ["g"])) == {"nih": "image seen", "kermany": "unknown"}
    web = seen(["nih"], corpora=own, before=[seen(["lvd-142m"])])
    assert contamination(web, Tested(["nih", "kermany"], ["f"])) == {"nih": "held out", "kermany": "clean"}
    reports = seen(["nih"], before=[seen(["kermany"], "text")])
    assert contamination(reports, Tested(["nih", "kermany"], ["f"])) == {"nih": "image seen", "kermany": "label seen"}


def test_a_declaration_is_shown_as_one_and_changes_nothing_that_is_clean():
    words = {"nih": "image seen", "cohen": "clean", "kermany": "held out", "brax": "unknown"}
    others = {"name": "b", "contamination": {"nih": "label seen"}, "seen": "label seen"}
    identities = {"a": {"name": "a", "contamination": words, "seen": "image seen"}, "b": others}
    declare(identities, {"a": ["nih", "cohen", "kermany"]})
    assert identities["a"]["contamination"] == {
        "nih": "declared held out", "cohen": "clean", "kermany": "held out", "brax": "unknown",
    }  # fmt: skip
    assert identities["a"]["seen"] == "unknown"
    assert identities["b"] == {"name": "b", "contamination": {"nih": "label seen"}, "seen": "label seen"}
    declare(identities, {"a": ["brax"]})
    assert identities["a"]["seen"] == "declared held out"


@pytest.mark.parametrize(
    ("given", "match"), [({"x": ["nih"]}, "no encoder is called 'x'"), ({"a": ["x"]}, "no source")]
)
def test_a_declaration_about_nothing_is_refused(given, match):
    identities = {"a": {"contamination": {"nih": "image seen"}, "seen": "image seen"}}
    with pytest.raises(ConfigError, match=match):
        declare(identities, given)


def test_the_gravest_is_last():
    assert GRAVITY.index("clean") == 0
    assert GRAVITY[-2:] == ("image seen", "label seen")
    assert GRAVITY.index("held out") < GRAVITY.index("declared held out") < GRAVITY.index("unknown")


def test_the_documentation_explains_every_word_in_order():
    text = (Path(__file__).parents[2] / "docs/evaluate.md").read_text(encoding="utf-8")
    places = [text.index(f"`{word}`", text.index("**Seen.**")) for word in GRAVITY]
    assert places == sorted(places)


def test_declarations_of_the_command_line():
    assert several("--held-out", ["a=nih", "a=cohen, brax", "b c=x"], "trained=nih") == {
        "a": ["nih", "cohen", "brax"],
        "b c": ["x"],
    }
    assert several("--held-out", None, "trained=nih") == {}
    with pytest.raises(ConfigError, match="--held-out takes trained=…, for example trained=nih; got 'nih'"):
        several("--held-out", ["nih"], "trained=nih")


def test_images_of_other_splits_than_test_were_seen_by_who_trained_on_them():
    record = Provenance(sources=["nih", "kermany"], supervision="self-supervised", corpora={"f": ["train"]})
    tested = Tested(["nih", "kermany"], ["f"], beyond_test=["kermany"])
    assert contamination(record, tested) == {"nih": "held out", "kermany": "image seen"}


def digested(**sources: list[str]) -> pd.DataFrame:
    """Rows of a manifest, one an image of each source, with what stands for its pixels."""
    rows = [(source, pixels) for source, images in sources.items() for pixels in images]
    return pd.DataFrame(rows, columns=["source", "sha256"], dtype=object)


def test_test_images_are_recognised_by_source():
    seen = SeenImages.of(digested(any=["a", "b", "c"]))
    tested = Tested(["nih", "cohen"], ["f"], images=digested(nih=["a", "x", "b"], cohen=["y"]))
    assert recognised(seen, tested) == {"nih": {"images": 3, "seen": 2}, "cohen": {"images": 1, "seen": 0}}
    assert recognised(None, tested) is None
    assert recognised(seen, Tested(["nih"], ["f"])) == {}


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (seen(["nih"], corpora={"f": ["train"]}), "recognised"),
        (seen([]), "recognised"),
        (seen(None, "unknown"), "recognised"),
        (seen(["nih"]), "image seen"),
        (seen(["nih"], "labels"), "label seen"),
    ],
)
def test_what_was_recognised_makes_a_word_graver_and_never_milder(record, told):
    tested = Tested(["nih"], ["f"])
    without = contamination(record, tested)
    assert contamination(record, tested, {"nih": {"images": 9, "seen": 1}}) == {"nih": told}
    assert contamination(record, tested, {"nih": {"images": 9, "seen": 0}}) == without
    assert contamination(record, tested, {"cohen": {"images": 9, "seen": 9}}) == without
    assert contamination(record, tested, None) == without


@pytest.mark.parametrize("word", ["recognised", "image seen", "label seen"])
def test_what_was_recognised_cannot_be_declared_away(word):
    counts = {"nih": {"images": 9, "seen": 1}, "cohen": {"images": 9, "seen": 0}}
    said = {"contamination": {"nih": word, "cohen": "image seen"}, "seen": word, "recognised": counts}
    identities = {"a": said}
    declare(identities, {"a": ["cohen"]})
    assert said["contamination"]["cohen"] == "declared held out"
    with pytest.raises(ConfigError, match="a was trained on test images of nih, known by their pixels: leave it out"):
        declare(identities, {"a": ["nih"]})


def test_a_corpus_is_known_within_a_combination():
    record = Provenance(sources=["nih"], supervision="self-supervised", corpora={"f": ["train"]})
    assert contamination(record, Tested(["nih"], ["f", "g"])) == {"nih": "held out"}
    both = Provenance(sources=["nih"], supervision="self-supervised", corpora={"f": ["train"], "h": ["train"]})
    assert contamination(both, Tested(["nih"], ["f", "g"])) == {"nih": "image seen"}
