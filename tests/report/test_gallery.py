import numpy as np

from raddino.report.gallery import gallery, overlay

from .fabricated import FakeCorpus, FakeEncoder, FloorEncoder


def test_attention_lights_where_it_is_high() -> None:
    attention = np.zeros((3, 8, 8))
    attention[:, 1, 6] = 1
    light = overlay(np.zeros((64, 64), np.uint8), attention).sum(-1)
    y, x = np.unravel_index(light.argmax(), light.shape)
    assert (y // 8, x // 8) == (1, 6)


def test_pictures_follow_what_the_encoder_offers() -> None:
    corpus = FakeCorpus()
    whole = gallery(corpus, FakeEncoder(), list(range(6)), shown=4)
    assert len(whole) == 4
    assert all(p.colours and p.attention and p.image.startswith("data:image/jpeg") for p in whole)
    assert all(p.colours is None and p.attention is None for p in gallery(corpus, FloorEncoder(), [0, 1]))
