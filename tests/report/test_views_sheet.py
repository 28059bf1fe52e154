"""The contact sheet: that it shows what training sees, and nothing about whose images they are."""

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from raddino import cli
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.errors import ConfigError
from raddino.report.views_sheet import TILE, draw_views, first_seen
from raddino.sample.generate import sample
from raddino.training.loader import Collate, Positions, Samples, make_loader, make_views, reading
from raddino.training.pretrain import PretrainConfig
from raddino.views import Multicrop

CONFIG = PretrainConfig(
    seed=4,
    batch_size=8,
    accumulate=2,
    vit={"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 8, "image_size": 32},
    views={"global_size": 32, "local_size": 16, "local_views": 3},
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    folder = tmp_path_factory.mktemp("seen")
    sample(folder / "sample", 20, seed=3, size=64, workers=1)
    return prepare(folder / "sample", folder / "corpus", shorter_side=48, workers=1)


def run(monkeypatch, capsys, *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["raddino", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    told = capsys.readouterr()
    return int(ended.value.code or 0), told.out, told.err


def test_it_shows_what_training_at_that_seed_sees(corpus):
    """Views and masks of the loader's own micro-batches of 4, the second one begun."""
    seen = first_seen(corpus, CONFIG, 6)
    rows = corpus.rows(split="train")
    samples, collate = Samples(corpus, rows, CONFIG.views, 4), Collate(CONFIG.views, 4, 4, (4, 4), masked=True)
    with reading(make_loader(samples, collate, Positions(4, 0, 2), 0, pin=False)) as batches:
        for number, batch in enumerate(batches):
            views = make_views(batch, Multicrop(CONFIG.views), torch.device("cpu"))
            for at, one in enumerate(seen[4 * number : 4 * number + 4]):
                image = batch.images[at].numpy()[: one.image.shape[0], : one.image.shape[1]]
                assert np.array_equal(one.image, image)
                expected = [*views.global_crops.view(2, 4, 32, 32)[:, at], *views.local_crops.view(3, 4, 16, 16)[:, at]]
                for crop, view in zip(one.crops, expected, strict=True):
                    grey = (view * CONFIG.views.std + CONFIG.views.mean) * 255
                    np.testing.assert_allclose(crop, grey, atol=0.51)
                assert np.array_equal(np.stack(one.masks), batch.masks.view(2, 4, 4, 4)[:, at])
    assert any(mask.any() for one in seen for mask in one.masks)


def test_equal_seeds_give_equal_files_and_others_do_not(corpus, tmp_path):
    files = [draw_views(corpus, CONFIG, tmp_path / f"{name}.png", 2) for name in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes()
    other = draw_views(corpus, CONFIG.model_copy(update={"seed": 5}), tmp_path / "c.png", 2)
    assert files[0].read_bytes() != other.read_bytes()


def test_the_command_writes_a_picture(monkeypatch, capsys, corpus, tmp_path):
    out = tmp_path / "views.png"
    words = ["--preset", "cpu-smoke", "--images", "3", "--seed", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["raddino", "views", str(corpus.path), *words])
    cli.app(standalone_mode=False)
    assert capsys.readouterr().out == f"views: {out}\n"
    picture = Image.open(out)
    picture.verify()
    assert picture.format == "PNG"
    assert picture.width > 3 * TILE
    assert picture.height > 3 * TILE


def test_nothing_says_whose_images_they_are(monkeypatch, corpus, tmp_path):
    """Neither the words drawn nor the file's bytes hold an id, a patient, a source, a path or a name."""
    from matplotlib.text import Text

    words: list[str] = []
    draw = Text.draw
    monkeypatch.setattr(Text, "draw", lambda self, renderer: (words.append(self.get_text()), draw(self, renderer))[1])
    file = draw_views(corpus, CONFIG, tmp_path / "views.png", 4)
    written = "\n".join(words)
    assert "Global view 1" in written
    secrets = [str(value) for name in ("id", "patient", "sha256") for value in corpus.manifest[name]]
    secrets += [corpus.fingerprint, str(corpus.path), corpus.path.name]
    for secret in secrets:
        assert secret not in written
        assert secret.encode() not in file.read_bytes()
    assert Image.open(io.BytesIO(file.read_bytes())).info.keys() <= {"dpi"}


def test_synthetic_images_are_said_to_be(monkeypatch, corpus, tmp_path):
    stamps: list[str] = []
    monkeypatch.setattr("raddino.report.views_sheet.put_stamp", lambda page, words: stamps.append(words))
    draw_views(corpus, CONFIG, tmp_path / "views.png", 1)
    assert stamps == ["synthetic data"]


def test_it_says_and_draws_how_views_are_turned_shifted_and_windowed(monkeypatch, corpus, tmp_path):
    from matplotlib.patches import Rectangle
    from matplotlib.text import Text

    words: list[str] = []
    boxes: list[Rectangle] = []
    draw, add = Text.draw, Rectangle.draw
    monkeypatch.setattr(Text, "draw", lambda self, renderer: (words.append(self.get_text()), draw(self, renderer))[1])
    monkeypatch.setattr(Rectangle, "draw", lambda self, renderer: (boxes.append(self), add(self, renderer))[1])
    changed = {"rotate": 20.0, "translate": 0.1, "window": 0.5, "flip": 0.0}
    config = CONFIG.model_copy(update={"views": CONFIG.views.model_copy(update=changed)})
    higher = Image.open(draw_views(corpus, config, tmp_path / "views.png", 1)).height
    plan = first_seen(corpus, config, 1)[0].plan
    said = "\n".join(words)
    for v in range(2):
        below, right = plan.shift[v].tolist()
        black, white = plan.window[v].tolist()
        expected = (
            f"turned {plan.turn[v]:+.1f}°, moved {right:+.0%}, {below:+.0%}, window {100 * black:.0f} to {white:.0%}"
        )
        assert expected in said
    turned = [box.get_angle() for box in boxes if box.get_angle()]
    assert sorted(turned) == pytest.approx(sorted(plan.turn.tolist()))
    boxes.clear()
    words.clear()
    plain = Image.open(draw_views(corpus, CONFIG, tmp_path / "plain.png", 1)).height
    assert not any(box.get_angle() for box in boxes)
    assert "turned" not in "\n".join(words)
    assert plain < higher


@pytest.mark.parametrize("changed", [{"local_views": 0}, {"local_size": 32}, {"global_size": 8, "local_size": 8}])
def test_other_sizes(corpus, tmp_path, changed):
    config = CONFIG.model_copy(update={"views": CONFIG.views.model_copy(update=changed)})
    assert Image.open(draw_views(corpus, config, tmp_path / "views.png", 1)).height > TILE


def test_a_missing_corpus_is_refused_in_one_line(monkeypatch, capsys, tmp_path):
    code, out, error = run(monkeypatch, capsys, "views", tmp_path / "none", "--out", tmp_path / "views.png")
    assert (code, out) == (2, "")
    assert error.count("\n") == 1
    assert "is no corpus" in error
    assert not (tmp_path / "views.png").exists()


def test_wrong_options_are_refused(corpus, tmp_path):
    with pytest.raises(ConfigError, match=r"--out takes a \.png file"):
        draw_views(corpus, CONFIG, tmp_path / "views.jpg")
    for images in (0, 65):
        with pytest.raises(ConfigError, match="--images takes 1 to 64"):
            draw_views(corpus, CONFIG, tmp_path / "views.png", images)
