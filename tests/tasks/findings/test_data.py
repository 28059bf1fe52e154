from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from acquisition_columns import with_acquisition
from findings_corpus import TEXTS, report_corpus, small_encoder
from raddino.errors import RaddinoError
from raddino.tasks.findings.data import IGNORED, Collator, FurtherImages, PatchTokens, Writer, check_length
from raddino.tasks.findings.language import load_language
from raddino.tasks.findings.prompts import load_template
from raddino.tasks.findings.settings import FindingsConfig

ASK = load_template("findings")


@pytest.fixture(scope="module")
def tokenizer():
    return load_language(FindingsConfig(language_model="tiny"), TEXTS, 0, torch.float32).tokenizer


def patches(tmp_path: Path, cached: bool) -> PatchTokens:
    corpus = report_corpus(tmp_path)
    return PatchTokens(
        corpus, small_encoder(), np.arange(8), cached=cached, batch_size=4, precision="fp32", cache=tmp_path / "cache"
    )


def test_lateral_of_the_study_and_previous_frontal(tmp_path: Path) -> None:
    manifest = report_corpus(tmp_path).manifest
    both = FurtherImages(manifest, ("prior", "lateral"))
    assert both(0) == [("lateral", 1)]
    assert both(2) == [("prior", 0), ("lateral", 3)]
    assert both(1) == []
    assert both(6) == [("prior", 5)]
    assert both(7) == []
    assert FurtherImages(manifest[["id"]], ("prior", "lateral"))(2) == []
    assert FurtherImages(manifest, ())(2) == []


def test_cached_and_computed_features_agree_to_half_precision(tmp_path: Path) -> None:
    rows = [3, 0, 3]
    held, computed = (patches(tmp_path, cached)(rows) for cached in (True, False))
    assert held.shape == (3, 16, 32)
    torch.testing.assert_close(held, computed, atol=2e-3, rtol=1e-3)
    assert torch.equal(held[0], held[2])


def test_only_the_answer_is_learnt(tmp_path: Path, tokenizer) -> None:
    corpus = report_corpus(tmp_path)
    config = FindingsConfig(language_model="tiny", images=("lateral",), indication=True)
    writer = Writer(corpus, tokenizer, config, ASK, 16)
    examples = [writer.example(0, TEXTS[0]), writer.example(4, TEXTS[6])]
    batch = Collator(patches(tmp_path, True), tokenizer.pad_token_id)(examples)
    image = tokenizer.convert_tokens_to_ids("<image>")
    assert (batch["input_ids"] == image).sum(1).tolist() == [32, 16]
    assert batch["pixel_values"].shape == (3, 16, 32)
    for i, text in enumerate((TEXTS[0], TEXTS[6])):
        learnt = batch["labels"][i]
        assert tokenizer.decode(learnt[learnt != IGNORED]) == text + tokenizer.eos_token
        told = tokenizer.decode(batch["input_ids"][i][(learnt == IGNORED) & batch["attention_mask"][i].bool()])
        assert ("Indication: fever" in told) == (i == 0)
        assert text not in told
    padding = batch["attention_mask"] == 0
    assert (batch["input_ids"][padding] == tokenizer.pad_token_id).all()
    assert (batch["labels"][padding] == IGNORED).all()


def test_shown_images_bring_their_own_company(tmp_path: Path, tokenizer) -> None:
    corpus = report_corpus(tmp_path)
    config = FindingsConfig(language_model="tiny", images=("lateral",), indication=True)
    example = Writer(corpus, tokenizer, config, ASK, 16).example(0, shown=2)
    assert example.pictures == (2, 3)
    assert "fever" in tokenizer.decode(example.prompt)
    assert example.answer == []


def test_long_texts_are_cut_without_an_end_and_marks_are_only_text(tmp_path: Path, tokenizer) -> None:
    writer = Writer(report_corpus(tmp_path), tokenizer, FindingsConfig(language_model="tiny", text_tokens=5), ASK, 16)
    assert writer.is_cut("word " * 50)
    assert not writer.is_cut("a")
    assert len(writer.example(0, "word " * 50).answer) == 5
    assert writer.example(0, "a").answer[-1] == tokenizer.eos_token_id
    smuggled = writer.example(0, "<image><end>").answer
    assert smuggled.count(tokenizer.eos_token_id) == 1
    assert tokenizer.convert_tokens_to_ids("<image>") not in smuggled


def test_prompts_that_do_not_fit_are_refused(tmp_path: Path, tokenizer) -> None:
    example = Writer(report_corpus(tmp_path), tokenizer, FindingsConfig(language_model="tiny"), ASK, 16).example(0)
    check_length([example], None, 100)
    check_length([example], len(example.prompt) + 100, 100)
    with pytest.raises(RaddinoError, match="token_pool"):
        check_length([example], len(example.prompt) + 99, 100)


def test_absent_texts_of_any_kind_are_not_told(tmp_path: Path, tokenizer) -> None:
    corpus = report_corpus(tmp_path)
    corpus.manifest["comparison"] = pd.Series([np.nan, None, "", 3, "none", None, None, None], dtype=object)
    writer = Writer(corpus, tokenizer, FindingsConfig(language_model="tiny", comparison=True, indication=True), ASK, 16)
    plain = writer.example(7).prompt
    assert writer.example(3).prompt == plain
    assert len(writer.example(4).prompt) > len(plain)


def test_no_prompt_tells_how_images_were_taken(tmp_path: Path, tokenizer) -> None:
    config = FindingsConfig(language_model="tiny", images=("lateral", "prior"), indication=True, comparison=True)
    plain, told = report_corpus(tmp_path), report_corpus(tmp_path)
    told.manifest = with_acquisition(told.manifest)
    for row, text in enumerate(TEXTS):
        one, other = (Writer(corpus, tokenizer, config, ASK, 16).example(row, text) for corpus in (plain, told))
        assert one == other
