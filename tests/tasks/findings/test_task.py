import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from memory_corpus import MemoryCorpus
from raddino.config import validate
from raddino.encoders.base import Features, Provenance
from raddino.errors import ConfigError, RaddinoError
from raddino.files import write_json
from raddino.tasks.base import Absent, TaskConfig
from raddino.tasks.cases import CASE_TASKS, Job
from raddino.tasks.findings import task as findings

pytest.importorskip("rouge_score")
pytest.importorskip("sacrebleu")

SAID = {True: "There is a left pleural effusion.", False: "No pleural effusion. Heart size is normal."}
CONFIG = TaskConfig(name="findings", target="report", kind="findings", options={"language_model": "tiny"})


class Grey:
    """CLS features are the means of the image's halves; a grid of 1 x 2."""

    name, dim, grid, fingerprint, provenance = "grey", 2, (1, 2), "9" * 64, Provenance()

    def preprocess(self, images: list[np.ndarray]) -> Any:
        import torch

        return torch.stack([torch.from_numpy(image.astype(np.float32)) for image in images])

    def encode(self, batch: Any) -> Features:
        import torch

        halves = torch.stack([half.mean((1, 2)) for half in batch.chunk(2, dim=2)], dim=1)
        return Features(halves, halves[:, None, :, None].repeat(1, 1, 1, 2))


@pytest.fixture
def corpus(tmp_path: Path) -> MemoryCorpus:
    """Bright left halves have an effusion; two studies a patient, an image each."""
    patient = np.arange(96) // 2
    ill = patient % 3 == 0
    draw = np.random.default_rng(0)
    images = [np.concatenate([np.full((8, 4), 60 + 120 * sick), np.full((8, 4), 90)], 1) for sick in ill]
    manifest = pd.DataFrame({
        "id": [f"image{i}" for i in range(96)], "patient": [f"p{p}" for p in patient], "source": "toy",
        "study": [f"s{i}" for i in range(96)], "view": "AP",
        "split": np.array(["train", "train", "val", "test"])[patient % 4], "report": [SAID[bool(sick)] for sick in ill],
    })  # fmt: skip
    noisy = [(image + draw.integers(0, 9, image.shape)).astype(np.uint8) for image in images]
    return MemoryCorpus(noisy, manifest, tmp_path / "corpus")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Training and writing by a rule that looks at the image; what was called, in order."""
    from raddino.tasks.findings import generate, train

    calls: list[str] = []

    def trains(corpus: Any, train_part: Any, val_part: Any, encoder: Any, config: Any, folder: Path, **_: Any) -> Any:
        calls.append(f"train {len(train_part.rows)} {len(val_part.rows)} {type(config).__name__}")
        folder.mkdir(parents=True, exist_ok=True)
        return train.Trained(folder / "model", {"language_model": config.language_model})

    def writes(corpus: Any, rows: np.ndarray, encoder: Any, folder: Path, *, shown: np.ndarray, **_: Any) -> list[str]:
        calls.append(f"write {len(rows)}")
        return ["FINDINGS:  " + SAID[bool(corpus.images[row][:, :4].mean() > 120)] for row in shown]

    monkeypatch.setattr(train, "train_findings", trains)
    monkeypatch.setattr(generate, "generate_findings", writes)
    return calls


def job_of(corpus: MemoryCorpus, folder: Path, **options: Any) -> Job:
    task = CASE_TASKS["findings"]
    chosen = findings.FindingsTaskConfig(**{**CONFIG.options, **options})
    return Job(corpus, task.select(corpus, CONFIG), Grey(), None, chosen, folder, device="cpu")  # type: ignore[arg-type]


def test_images_without_a_text_are_left_out_and_counted(corpus: MemoryCorpus) -> None:
    texts = corpus.manifest["report"].tolist()
    texts[:4] = [None, "", "   ", "FINDINGS: "]
    corpus.manifest["report"] = texts
    config = CONFIG.model_copy(update={"options": {**CONFIG.options, "cleaning": "raddino-1"}})
    examples = CASE_TASKS["findings"].select(corpus, config)  # type: ignore[arg-type]
    assert examples.excluded == {"no text": 3, "nothing left of the text by the cleaning rule": 1}
    assert len(examples.rows) == 92
    assert examples.target[0] == 7
    assert examples.describe()["positives"] is None


def test_what_cannot_be_measured_says_why(corpus: MemoryCorpus) -> None:
    task = CASE_TASKS["findings"]
    with pytest.raises(Absent, match=r"no column 'reports'\. Did you mean 'report'"):
        task.select(corpus, CONFIG.model_copy(update={"target": "reports"}))  # type: ignore[arg-type]
    with pytest.raises(Absent, match="no image of the val split has a text"):
        task.select(corpus, CONFIG.model_copy(update={"where": "split != 'val'"}))  # type: ignore[arg-type]
    test = corpus.manifest["split"] == "test"
    crowd = corpus.manifest["patient"].where(~test | (np.arange(96) < 64), "crowd")
    few = MemoryCorpus(corpus.images, corpus.manifest.assign(patient=crowd), corpus.path)
    with pytest.raises(Absent, match="patients; at least 10"):
        task.select(few, CONFIG)  # type: ignore[arg-type]
    blind = Grey()
    blind.grid = None  # type: ignore[assignment]
    assert "no patch features" in task.needs(blind, None)  # type: ignore[arg-type]
    assert task.needs(Grey(), None) == ""  # type: ignore[arg-type]


def test_model_shuffled_nearest_and_prior(corpus: MemoryCorpus, made: list[str], tmp_path: Path) -> None:
    job = job_of(corpus, tmp_path / "work")
    cases = CASE_TASKS["findings"].run(job)
    assert [(one.variant, one.alone) for one in cases] == [
        ("", False), ("shuffled images", False), ("nearest neighbour", False), ("prior", True),
    ]  # fmt: skip
    assert made == ["train 48 24 FindingsConfig", "write 24", "write 24"]
    f1 = {}
    for one in cases:
        assert len(one.records) == len(job.examples.at["test"])
        computed = CASE_TASKS["findings"].statistics(one.records)
        assert next(iter(computed)) == "rules_f1_14_micro"
        f1[one.variant] = float(computed["rules_f1_14_micro"](None))
        json.dumps(one.chosen)
    assert f1[""] == f1["nearest neighbour"] == 1.0
    assert f1["shuffled images"] < 0.8
    assert f1["prior"] < 1
    assert cases[0].notes["absent"].keys() >= {"chexbert_f1_14_micro", "radgraph_er"}
    assert cases[0].notes["signatures"].keys() >= {"rules_f1", "bleu_4", "rouge_l"}
    assert set(cases[0].records) == set(cases[3].records)
    np.testing.assert_array_equal(findings.report_scores(cases[0].records), 1.0)


def test_further_images_of_a_study_change_no_number(corpus: MemoryCorpus, made: list[str], tmp_path: Path) -> None:
    """Neither of the model nor of what it has to beat; further images of some studies among the others, all black."""
    plain = job_of(corpus, tmp_path / "plain")
    draw = np.random.default_rng(1)
    again = np.r_[np.arange(96), draw.integers(0, 96, 60)]
    place = np.argsort(np.r_[np.arange(96), draw.uniform(-1, 96, 60)])
    further = (np.arange(156) >= 96)[place]
    manifest = corpus.manifest.iloc[again[place]].reset_index(drop=True)
    manifest["id"] = np.where(further, [f"a{at}" for at in range(156)], manifest["id"])
    manifest["view"] = np.where(further, "LATERAL", "AP")
    images = [corpus.images[row] * (not black) for row, black in zip(again[place], further, strict=True)]
    job = job_of(MemoryCorpus(images, manifest, tmp_path / "more"), tmp_path / "work")
    assert job.examples.excluded == {"further image of its study": 60}
    assert job.examples.describe()["n"] == plain.examples.describe()["n"] == {"train": 48, "val": 24, "test": 24}
    np.testing.assert_array_equal(job.examples.patients, plain.examples.patients)
    task = CASE_TASKS["findings"]
    for one, two in zip(task.run(plain), task.run(job), strict=True):
        pd.testing.assert_frame_equal(one.records, two.records)
    assert made[:3] == made[3:]


def test_texts_stay_in_the_folder(corpus: MemoryCorpus, made: list[str], tmp_path: Path) -> None:
    job = job_of(corpus, tmp_path / "work")
    CASE_TASKS["findings"].run(job)
    table = pd.read_parquet(tmp_path / "work" / "reports.parquet")
    assert list(table) == ["variant", "id", "reference", "hypothesis", "score", "rouge_l"]
    assert len(table) == 4 * len(job.examples.at["test"])
    own = table[table["variant"] == ""]
    assert own["id"].tolist() == job.examples.ids[job.examples.at["test"]].tolist()
    assert (own["reference"] == own["hypothesis"]).all()
    assert table[table["variant"] == "prior"]["hypothesis"].nunique() == 1
    assert not list((tmp_path / "work").glob("*.draft"))


def test_texts_are_open_to_their_owner_alone(corpus: MemoryCorpus, made: list[str], tmp_path: Path) -> None:
    (tmp_path / "work").mkdir(mode=0o755)
    CASE_TASKS["findings"].run(job_of(corpus, tmp_path / "work"))
    rights = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "work", *(tmp_path / "work").iterdir())}
    assert rights.pop("work") == 0o700
    assert rights == dict.fromkeys(("reports.parquet", "texts.json", "texts-shuffled.json"), 0o600)


def test_what_was_written_is_not_written_again(
    corpus: MemoryCorpus, made: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "CHUNK", 10)
    job = job_of(corpus, tmp_path / "work")
    first = CASE_TASKS["findings"].run(job)
    assert made.count("write 10") == 4
    made.clear()
    file = tmp_path / "work" / "texts.json"
    held = json.loads(file.read_text(encoding="utf-8"))
    write_json(file, {**held, "texts": held["texts"][:10]})
    second = CASE_TASKS["findings"].run(job)
    assert made == ["train 48 24 FindingsConfig", "write 10", "write 4"]
    pd.testing.assert_frame_equal(first[0].records, second[0].records)
    del held["seal"]
    damaged = [json.dumps({**held, "texts": texts}) for texts in ("abc", [1, 2], held["texts"] * 2, None)]
    for content in ("{", "[]", *damaged):
        file.write_text(content, encoding="utf-8")
        made.clear()
        CASE_TASKS["findings"].run(job)
        assert made.count("write 10") == 2


def test_a_judge_that_is_given_and_missing_stops_before_training(
    corpus: MemoryCorpus, made: list[str], tmp_path: Path
) -> None:
    with pytest.raises(RaddinoError, match="CheXbert"):
        CASE_TASKS["findings"].run(job_of(corpus, tmp_path / "work", chexbert=tmp_path))
    assert made == []


def test_an_unknown_cleaning_rule_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"cleaning.*no such rule"):
        validate(findings.FindingsTaskConfig, {"cleaning": "mine"})


def test_no_folder_of_this_machine_stands_beside_a_number(
    corpus: MemoryCorpus, made: list[str], tmp_path: Path
) -> None:
    (tmp_path / "my-model").mkdir()
    prompt = tmp_path / "mine.yaml"
    prompt.write_text("ask: What is seen?", encoding="utf-8")
    places = {"language_model": str(tmp_path / "my-model"), "prompt": str(prompt)}
    cases = CASE_TASKS["findings"].run(job_of(corpus, tmp_path / "work", **places))
    assert cases[0].chosen["options"]["language_model"] == "my-model"
    assert cases[0].chosen["options"]["prompt"] == "mine.yaml"
    assert str(tmp_path) not in json.dumps(cases[0].chosen["options"])
