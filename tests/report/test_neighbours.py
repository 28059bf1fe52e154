import shutil

import numpy as np
import pytest

from raddino.features.extract import embed
from raddino.report.neighbours import retrieve

from .fabricated import FakeCorpus, FakeEncoder, FloorEncoder


def test_retrieval_shows_strangers_from_training(corpus: FakeCorpus) -> None:
    found = retrieve(corpus, FakeEncoder(), ["sex", "label_pneumonia", "not_there"])
    assert found is not None
    assert found.searched == (corpus.manifest["split"] == "train").sum()
    assert {part.label for part in found.agreement} == {"sex", "pneumonia"}
    assert len(found.queries) == 6
    for query, neighbours in found.queries:
        assert len(neighbours) == 5
        assert all(mark.agrees is None for mark in query.marks)
        words = {mark.text for mark in query.marks}
        for shown in neighbours:
            assert all(mark.agrees == (mark.text in words) for mark in shown.marks)


class Counting(FakeEncoder):
    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, batch):
        self.encoded += len(batch)
        return super().encode(batch)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nothing_is_embedded_but_what_is_shown(tmp_path, monkeypatch, precision) -> None:
    encoder, corpus = Counting(), FakeCorpus(path=tmp_path)
    monkeypatch.setattr("raddino.look.neighbours.FRESH", 7)
    fresh = retrieve(corpus, encoder, ["sex"])
    assert fresh is not None
    assert fresh.searched == 7
    assert encoder.encoded == 14
    shutil.rmtree(corpus.path / "features")
    evaluated = np.concatenate([corpus.rows("train")[:8], corpus.rows("test")[:3]])
    embed(corpus, encoder, rows=evaluated, precision=precision)
    before = encoder.encoded
    found = retrieve(corpus, encoder, ["sex"])
    assert found is not None
    assert encoder.encoded == before
    assert found.searched == 8
    assert found.agreement[0].queries == 3


def test_a_corpus_too_small_to_search(corpus: FakeCorpus) -> None:
    corpus.manifest = corpus.manifest.iloc[:4]
    assert retrieve(corpus, FloorEncoder(), ["sex"]) is None
