"""ROUGE-L, BLEU-4 and METEOR against the libraries that define them."""

import re

import numpy as np
import pytest

from raddino.metrics import text

pytest.importorskip("rouge_score")
sacrebleu = pytest.importorskip("sacrebleu")

WORDS = re.findall(
    r"\S+", "the lungs are clear no focal consolidation , effusion or pneumothorax . heart size is normal , 2.5 cm"
)


def reports(n=40, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda: " ".join(rng.choice(WORDS, rng.integers(1, 30)))  # noqa: E731
    references = [draw().capitalize() for _ in range(n)]
    hypotheses = [
        one if rng.random() < 0.2 else f"{one} {draw()}" if rng.random() < 0.3 else draw() for one in references
    ]
    return [*references, "", "clear", "", "Lungs.\nClear"], [*hypotheses, "", "", "clear", "lungs clear"]


def test_rouge_l_is_rouge_score():
    from rouge_score.rouge_scorer import RougeScorer

    references, hypotheses = reports()
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    expected = [scorer.score(r, h)["rougeL"].fmeasure for r, h in zip(references, hypotheses, strict=True)]
    np.testing.assert_array_equal(text.rouge_l(references, hypotheses), expected)


def test_longest_common_subsequence_equals_the_table():
    rng = np.random.default_rng(1)
    for _ in range(50):
        one, other = (rng.choice(list("abcd"), rng.integers(0, 90)).tolist() for _ in range(2))
        table = np.zeros((len(one) + 1, len(other) + 1), dtype=int)
        for i, a in enumerate(one):
            for j, b in enumerate(other):
                table[i + 1, j + 1] = table[i, j] + 1 if a == b else max(table[i, j + 1], table[i + 1, j])
        assert text.longest_common_subsequence(one, other) == table[-1, -1]


def test_texts_of_ten_thousand_words_are_scored_whole():
    one = " ".join(f"w{n}" for n in range(10_000))
    other = " ".join(f"w{n}" for n in range(5_000, 15_000))
    np.testing.assert_allclose(text.rouge_l([one], [other]), [0.5])
    assert text.bleu_statistics([one], [other])[0, :3].tolist() == [10_000, 10_000, 5_000]


def test_rouge_l_has_no_words_in_other_scripts():
    same = ["肺野清晰", "Лёгкие чистые", "clear"]
    assert text.rouge_l(same, same).tolist() == [0, 0, 1]
    words = ["Лёгкие чистые без очагов"]
    assert text.bleu_4(text.bleu_statistics(words, words).sum(0)) == pytest.approx(1)


def corpus_bleu(references, hypotheses):
    return sacrebleu.corpus_bleu(hypotheses, [references], lowercase=True, tokenize="13a").score / 100


def test_bleu_is_sacrebleu_on_the_whole_and_on_resamples():
    references, hypotheses = reports()
    counted = text.bleu_statistics(references, hypotheses)
    np.testing.assert_allclose(text.bleu_4(counted.sum(0)), corpus_bleu(references, hypotheses), rtol=1e-12)
    rng = np.random.default_rng(2)
    drawn = rng.integers(0, len(references), (20, len(references)))
    weights = np.stack([np.bincount(rows, minlength=len(references)) for rows in drawn]).astype(float)
    expected = [corpus_bleu([references[i] for i in rows], [hypotheses[i] for i in rows]) for rows in drawn]
    np.testing.assert_allclose(text.bleu_4(weights @ counted), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("a b c d e", "a x c y e"),  # no bigram: smoothed three times
        ("a b c d e", "a b x d e"),  # no trigram
        ("a b c d e", "v w x y z"),  # nothing
        ("a b c", "a b c"),  # no 4-gram to count
        ("a b c d e f g h", "a b c d"),  # brevity
        ("", "a b c d"),
        ("a b c d", ""),
        ("", ""),
    ],
)
def test_bleu_smooths_as_sacrebleu(reference, hypothesis):
    ours = text.bleu_4(text.bleu_statistics([reference], [hypothesis]).sum(0))
    np.testing.assert_allclose(ours, corpus_bleu([reference], [hypothesis]), rtol=1e-12)


def test_bleu_signature_is_sacrebleus():
    scorer = sacrebleu.metrics.BLEU(lowercase=True)
    scorer.corpus_score(["x"], [["x"]])
    assert str(scorer.get_signature()) in text.bleu_signature()
    assert "case:lc|eff:no|tok:13a|smooth:exp" in text.bleu_signature()


class NoSynonyms:
    def synsets(self, word):
        return []


def test_meteor_is_nltks_and_cuts_long_texts():
    nltk = pytest.importorskip("nltk.translate.meteor_score")
    references, hypotheses = ["It is a guide to action.", "a", ""], ["it guides to actions", "", "a"]
    expected = nltk.single_meteor_score(
        ["It", "is", "a", "guide", "to", "action", "."], ["it", "guides", "to", "actions"], wordnet=NoSynonyms()
    )
    found = text.meteor(references, hypotheses, NoSynonyms())
    np.testing.assert_allclose(found, [expected, 0, 0])
    assert 0 < expected < 1
    long = " ".join(f"w{n}" for n in range(text.METEOR_WORDS + 500))
    short = " ".join(f"w{n}" for n in range(text.METEOR_WORDS))
    np.testing.assert_allclose(text.meteor([long], [short], NoSynonyms()), 1, atol=1e-6)


def test_lists_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="2 references and 1 hypotheses"):
        text.rouge_l(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="hypothesis 0 is not text but NoneType"):
        text.bleu_statistics(["a"], [None])


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu.metrics", None)
    with pytest.raises(text.RaddinoError, match=r"need sacrebleu: pip install 'raddino\[clinical\]'"):
        text.bleu_statistics(["a"], ["a"])
