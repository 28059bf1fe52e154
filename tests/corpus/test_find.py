"""A hash leads its holder back to the file, and nobody without the key."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from raddino.corpus.find import find
from raddino.corpus.prepare import prepare
from raddino.errors import ConfigError, RaddinoError


def test_skipped_and_packed_images_are_found(images, tmp_path):
    broken = images / "png/Doe_Jane_03.png"
    broken.write_bytes(b"no picture")
    corpus = prepare(images, tmp_path / "corpus", workers=1)
    skipped = pd.read_csv(corpus.path / "skipped.csv")["hash"].tolist()
    assert [find(images, one) for one in skipped] == [str(broken)]
    found = {find(images, one) for one in corpus.manifest["id"]}
    assert len(found) == 39
    assert str(broken) not in found


def test_another_key_leads_nowhere(images, tmp_path):
    one = prepare(images, tmp_path / "corpus", workers=1).manifest["id"][0]
    with pytest.raises(RaddinoError, match=r"no image of .* has the hash"):
        find(images, one, key="another key, also long")


def test_a_source_is_searched_too(images, tmp_path):
    corpus = prepare(images, tmp_path / "corpus", workers=1, columns={"source": ""}, source="ward")
    assert find(images, corpus.manifest["id"][0], columns={"source": ""}, source="ward") in {
        str(file) for file in images.rglob("*.png")
    }
    with pytest.raises(RaddinoError):
        find(images, corpus.manifest["id"][0])


def test_a_data_set_is_searched_with_its_options(tmp_path):
    (tmp_path / "data/case").mkdir(parents=True)
    picture = tmp_path / "data/case/1.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 30), dtype=np.uint8)).save(picture)
    spec, options = f"folder:{tmp_path / 'data'}", {"patients": "folder"}
    corpus = prepare(spec, tmp_path / "corpus", workers=1, source_options=options)
    assert find(spec, corpus.manifest["id"][0], source_options=options) == str(picture)
    assert find(spec, corpus.manifest["id"][0]) == str(picture)
    with pytest.raises(ConfigError, match="patients"):
        find(spec, corpus.manifest["id"][0], source_options={"patients": "column"})
