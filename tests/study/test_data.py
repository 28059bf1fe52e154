"""Drawn corpora of a study: sources, detectors, and a folder for each kind."""

from raddino.study.data import draw_corpus
from raddino.study.settings import Sample


def test_detectors_are_planted_where_asked_for(tmp_path):
    plain = draw_corpus(Sample(images=40, side=32), tmp_path, 1)
    marked = draw_corpus(Sample(images=40, side=32, detectors=2, sources=2), tmp_path, 1)
    assert plain.manifest["manufacturer"].nunique() < 2
    assert marked.manifest["manufacturer"].nunique() == 2
    assert marked.manifest["source"].nunique() == 2
    assert plain.path != marked.path
    assert draw_corpus(Sample(images=40, side=32, detectors=2, sources=2), tmp_path, 1).path == marked.path
