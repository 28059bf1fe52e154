import shutil
from pathlib import Path

import numpy as np
import pytest

from findings_corpus import TEXTS, report_corpus, small_encoder
from raddino.errors import RaddinoError
from raddino.tasks.findings.data import Reports
from raddino.tasks.findings.generate import generate_findings
from raddino.tasks.findings.settings import FindingsConfig, Stage, TinyLanguage
from raddino.tasks.findings.train import train_findings


@pytest.fixture(scope="module", params=[1, 3])
def folder(request, tmp_path_factory) -> Path:
    """Trained a little, with a lateral and a prior image where there are any; greedy, and with three beams."""
    place = tmp_path_factory.mktemp("findings")
    config = FindingsConfig(
        language_model="tiny",
        tiny=TinyLanguage(layers=2, width=64, heads=2, vocabulary=400),
        images=("lateral", "prior"),
        beams=request.param,
        text_tokens=30,
        evaluate_every=20,
        stages=(Stage(train="both", steps=20, lr=3e-3),),
    )
    reports = Reports(np.arange(8), TEXTS)
    made = train_findings(
        report_corpus(place), reports, reports, small_encoder(), config, place, device="cpu", cache=place / "cache"
    )
    return made.folder


def write(folder: Path, rows: list[int], **values) -> list[str]:
    corpus = report_corpus(folder.parent)
    options = {"device": "cpu", "cache": folder.parent / "cache"} | values
    return generate_findings(corpus, np.array(rows), small_encoder(), folder, **options)


def test_texts_do_not_depend_on_company_or_order(folder: Path) -> None:
    together = write(folder, list(range(8)))
    assert write(folder, list(range(8))[::-1])[::-1] == together
    assert write(folder, list(range(8)), batch_size=1) == together
    assert len(set(together)) > 1


def test_nothing_to_write(folder: Path) -> None:
    assert write(folder, []) == []


def test_another_encoder_and_wrong_numbers_are_refused(folder: Path) -> None:
    corpus = report_corpus(folder.parent)
    with pytest.raises(RaddinoError, match="another encoder"):
        generate_findings(corpus, np.arange(2), small_encoder(seed=1), folder, device="cpu")
    with pytest.raises(RaddinoError, match="2 images are described but 3 shown"):
        write(folder, [0, 1], shown=np.arange(3))


def test_damaged_weights_are_one_line(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(RaddinoError, match="is missing or not the file") as caught:
        write(copy, [0])
    assert "\n" not in str(caught.value)
