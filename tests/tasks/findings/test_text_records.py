"""The bundle: records of reports, every metric on them and on resamples of them, and what is said about each."""

import io

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from raddino.metrics import text
from raddino.metrics.bootstrap import PatientBootstrap
from raddino.metrics.clinical import FINDINGS_5, FINDINGS_14, label_matrix
from raddino.tasks.findings import text_records as bundle
from raddino.tasks.findings.text_records import Judges, statistics, text_records

pytest.importorskip("rouge_score")
pytest.importorskip("sacrebleu")

NAMES = dict(zip("abcdefghijklmn", FINDINGS_14, strict=True))


def letters(texts):
    """A finding is present where its letter is a word of the text, uncertain where a question mark follows it."""
    found = []
    for one in texts:
        words = one.split()
        present = {NAMES[word]: 1 for word in words if word in NAMES}
        found.append(present | {NAMES[word[0]]: -1 for word in words if len(word) == 2 and word[1] == "?"})
    return label_matrix(found)


def draw(n=30, seed=0):
    rng = np.random.default_rng(seed)
    words = [*NAMES, "a?", "b?", "the", "lungs", "are"]
    return tuple([" ".join(rng.choice(words, rng.integers(0, 12))) for _ in range(n)] for _ in range(2))


class Graph:
    signature = "radgraph|stand-in"

    def __call__(self, references, hypotheses):
        return np.tile([0.5, 0.25, 0.125], (len(references), 1))


class NoSynonyms:
    def synsets(self, word):
        return []


@pytest.fixture
def judges():
    return Judges({"rules": letters}, {"rules": "letters"})


def test_every_metric_equals_its_definition_on_the_whole_and_on_a_resample(judges):
    references, hypotheses = draw()
    records = text_records(references, hypotheses, judges, training=hypotheses[:5])
    computed = statistics(records)
    weights = np.stack([np.ones(len(records)), np.random.default_rng(1).multinomial(len(records), [1 / 30] * 30)])
    columns = [FINDINGS_14.index(name) for name in FINDINGS_5]
    for at, weight in enumerate(weights):
        rows = np.repeat(np.arange(len(records)), weight.astype(int))
        refs, hyps = [references[i] for i in rows], [hypotheses[i] for i in rows]
        true, said = letters(refs) == 1, letters(hyps) == 1
        maybe, likely = np.abs(letters(refs)) == 1, np.abs(letters(hyps)) == 1
        expected = {
            "rules_f1_14_micro": f1_score(true, said, average="micro", zero_division=0),
            "rules_f1_14_macro": f1_score(true, said, average="macro", zero_division=0),
            "rules_f1_5_micro": f1_score(true[:, columns], said[:, columns], average="micro", zero_division=0),
            "rules_f1_14+_macro": f1_score(maybe, likely, average="macro", zero_division=0),
            "rules_f1 (edema)": f1_score(true[:, 5], said[:, 5], zero_division=0),
            "rouge_l": text.rouge_l(refs, hyps).mean(),
            "bleu_4": text.bleu_4(text.bleu_statistics(refs, hyps).sum(0)),
            "length": np.mean([len(one.split()) for one in hyps]),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(computed[name](weights)[at], value, err_msg=name)
    assert computed["rouge_l"](None).shape == ()
    np.testing.assert_allclose(computed["distinct"](None), len(set(hypotheses)) / 30)


def test_a_thousand_resamples_of_all_metrics_have_their_shape(judges):
    references, hypotheses = draw()
    computed = statistics(text_records(references, hypotheses, judges))
    draws = PatientBootstrap(np.arange(30) // 2, resamples=1000)
    assert all(draws.distribution(metric).shape == (1000,) for metric in computed.values())


def test_primary_is_the_rules_unless_chexbert_is_there(judges):
    references, hypotheses = draw()
    assert next(iter(statistics(text_records(references, hypotheses, judges)))) == "rules_f1_14_micro"
    judges.labelers["chexbert"] = letters
    records = text_records(references, hypotheses, judges)
    assert next(iter(statistics(records))) == "chexbert_f1_14_micro"
    assert bundle.labelers_of(records) == ["chexbert", "rules"]


def test_what_is_absent_leaves_no_metric_and_what_is_there_does(judges):
    references, hypotheses = draw()
    without = statistics(text_records(references, hypotheses, judges))
    assert not {"meteor", "radgraph_er"} & set(without)
    judges.radgraph, judges.wordnet = Graph(), NoSynonyms()
    records = text_records(references, hypotheses, judges)
    computed = statistics(records)
    assert [computed[f"radgraph_{name}"](None) for name in ("e", "er", "er_bar")] == [0.5, 0.25, 0.125]
    assert set(computed) - set(without) == {"meteor", "radgraph_e", "radgraph_er", "radgraph_er_bar"}
    said = bundle.signatures(records, judges, "lower")
    assert set(said) == set(computed)
    assert said["radgraph_er"] == "radgraph|stand-in|reward:partial|cleaning:lower"
    assert said["rules_f1_14+_micro"] == "letters|uncertain:positive|zero_division:0|cleaning:lower"
    assert "smooth:exp" in said["bleu_4"]
    assert all(line.endswith("|cleaning:lower") for line in said.values())


def test_records_survive_parquet_and_the_table_reads_them(judges):
    references, hypotheses = draw()
    records = text_records(references, hypotheses, judges)
    file = io.BytesIO()
    records.to_parquet(file)
    again = pd.read_parquet(file)
    pd.testing.assert_frame_equal(records, again)
    table = bundle.table_of(again, "rules")
    assert list(table.index) == list(FINDINGS_14)
    np.testing.assert_allclose(table["f1"]["edema"], statistics(again)["rules_f1 (edema)"](None))


def test_a_text_is_labelled_once(judges):
    seen = []
    judges.labelers["rules"] = lambda texts: (seen.extend(texts), letters(texts))[1]
    for _ in range(2):
        text_records(["a", "b", "a"], ["a", "a", "a"], judges)
    assert sorted(seen) == ["a", "b"]


def test_empty_texts_and_no_reports_do_not_break(judges):
    computed = statistics(text_records(["", "a b"], ["", ""], judges))
    assert computed["rules_f1_14_micro"](None) == 0
    assert computed["bleu_4"](None) == 0
    assert np.isnan(computed["rules_f1 (edema)"](None))
    assert np.isnan(computed["repetition"](None))
    assert np.isnan(statistics(text_records([], [], judges))["rouge_l"](None))


def test_judges_say_what_is_not_here(tmp_path, monkeypatch):
    nltk = pytest.importorskip("nltk")
    monkeypatch.setenv("RADDINO_WEIGHTS", str(tmp_path))
    monkeypatch.delenv("RADDINO_RADGRAPH_PYTHON", raising=False)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    if bundle.find_wordnet() is not None:
        pytest.skip("WordNet was read before this test")
    found = bundle.find_judges(device="cpu")
    assert set(found.labelers) == {"rules"}
    assert found.absent["chexbert_f1_14_micro"].startswith("weights not provided")
    assert found.absent["radgraph_er"].startswith("weights not provided")
    assert found.absent["meteor"].startswith("not provided")


@pytest.mark.filterwarnings("ignore:The multilingual functions")
def test_wordnet_is_read_where_its_data_lies(tmp_path, monkeypatch):
    nltk = pytest.importorskip("nltk")
    from nltk.corpus.reader import WordNetCorpusReader
    from nltk.corpus.util import LazyCorpusLoader

    folder = tmp_path / "corpora/wordnet"
    folder.mkdir(parents=True)
    for part in ("noun", "verb", "adj", "adv"):
        for name in (f"index.{part}", f"data.{part}", f"{part}.exc"):
            (folder / name).touch()
    for name in ("lexnames", "index.sense", "cntlist.rev"):
        (folder / name).touch()
    (folder / "lexnames").write_text("00\tnoun.Tops\t1\n", encoding="utf-8")
    (folder / "data.noun").write_text("00000000 00 n 02 heart 0 pump 0 000 | a muscle\n", encoding="utf-8")
    (folder / "index.noun").write_text("heart n 1 0 1 0 00000000\npump n 1 0 1 0 00000000\n", encoding="utf-8")
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(nltk.corpus, "wordnet", LazyCorpusLoader("wordnet", WordNetCorpusReader, None))
    reader = bundle.find_wordnet()
    assert text.meteor(["the heart"], ["the pump"], reader) > text.meteor(["the heart"], ["the ball"], reader)
