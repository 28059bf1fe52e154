import random

import pytest
import torch

from findings_corpus import TEXTS
from raddino.errors import RaddinoError
from raddino.tasks.findings.settings import TinyLanguage
from raddino.tasks.findings.tiny_language import tiny_decoder, tiny_tokenizer


def test_any_text_comes_back_in_few_tokens() -> None:
    tokenizer = tiny_tokenizer(list(TEXTS) * 3, 500)
    for text in (*TEXTS, "never seen: \t ψ 🫁 e\u0301"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(TEXTS[1])) < len(TEXTS[1]) / 3
    assert len(tokenizer) <= 500


def test_the_order_of_texts_does_not_matter() -> None:
    texts = [f"{word} {number}" for word in ("lung", "heart", "rib") for number in range(40)]
    shuffled = random.Random(0).sample(texts, len(texts))
    first, second = (tiny_tokenizer(some, 400).get_vocab() for some in (texts, shuffled))
    assert first == second


def test_no_text_is_an_error() -> None:
    with pytest.raises(RaddinoError, match="no training text"):
        tiny_tokenizer(["", ""], 400)


def test_weights_are_a_function_of_the_seed() -> None:
    tokenizer = tiny_tokenizer(TEXTS, 300)
    shape = TinyLanguage(layers=1, width=32, heads=2)
    before = torch.random.get_rng_state()
    one, again, other = (tiny_decoder(shape, tokenizer, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
    assert torch.equal(before, torch.random.get_rng_state())
