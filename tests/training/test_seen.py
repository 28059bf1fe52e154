"""What the weights of a run have seen, through resumes, forks, chains of --init and exports."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from raddino.benchmark.contamination import Tested, contamination
from raddino.benchmark.plan import load_encoders
from raddino.benchmark.sites import Population
from raddino.config import validate
from raddino.corpus.prepare import prepare
from raddino.corpus.view import CorpusView
from raddino.encoders.base import Provenance
from raddino.encoders.export import export
from raddino.encoders.load import load_encoder
from raddino.encoders.ours import SHIPPED
from raddino.encoders.seen_images import FILE as SEEN_IMAGES
from raddino.errors import RaddinoError
from raddino.training.pretrain import PretrainConfig, pretrain, training_rows
from raddino.training.seen import at_step, initial_images, initial_record, run_record


class Other:
    """A corpus of another source, which is all that a record looks at."""

    def __init__(self, corpus, source: str, fingerprint: str) -> None:
        self.manifest = corpus.manifest.assign(source=source, synthetic=False)
        self.fingerprints = [fingerprint]


def run(corpus, out, values, **options) -> Path:
    return pretrain(corpus, out, validate(PretrainConfig, values | {"steps": 2}), device="cpu", workers=0, **options)


def config(**values) -> PretrainConfig:
    return validate(PretrainConfig, values)


def words(encoder: Path, fingerprint: str, *sources: str) -> list[str]:
    return list(contamination(load_encoder(str(encoder)).provenance, Tested(sources, [fingerprint])).values())


@pytest.fixture(scope="module")
def trained(corpus, tiny, tmp_path_factory) -> Path:
    """Encoder of a run from random weights."""
    return run(corpus, tmp_path_factory.mktemp("first") / "run", tiny)


@pytest.fixture(scope="module")
def unrecorded(trained, tmp_path_factory) -> Path:
    """The same weights as Transformers saves them, without a record."""
    folder = tmp_path_factory.mktemp("foreign") / "weights"
    shutil.copytree(trained, folder)
    (folder / "raddino.json").unlink()
    (folder / SEEN_IMAGES).unlink()
    return folder


def test_a_run_knows_its_own_corpus_and_splits(trained, corpus):
    assert words(trained, corpus.fingerprint, "synthetic", "nih") == ["held out", "clean"]
    assert words(trained, "another", "synthetic", "nih") == ["image seen", "clean"]
    assert words(trained.parent / "initial", "another", "synthetic", "nih") == ["clean", "clean"]
    environment = json.loads((trained.parent / "environment.json").read_text(encoding="utf-8"))
    assert Provenance.from_dict(environment["provenance"]).corpora == {corpus.fingerprint: ["train"]}


def test_of_weights_without_a_record_only_what_was_before_is_unknown(unrecorded, corpus, tiny, tmp_path):
    encoder = run(corpus, tmp_path / "run", tiny | {"init": str(unrecorded)})
    assert words(encoder, "another", "synthetic", "nih") == ["image seen", "unknown"]
    assert words(encoder, corpus.fingerprint, "synthetic") == ["unknown"]
    assert words(tmp_path / "run/initial", "another", "synthetic") == ["unknown"]
    record = load_encoder(str(encoder)).provenance
    assert record.before[0].sha256 in record.note
    assert record.told_sources("?", "none") == "synthetic; before: ?"


def test_chains_of_runs_and_exports_carry_all_of_it(trained, unrecorded, corpus, tiny, tmp_path):
    export(str(trained), tmp_path / "hf", "huggingface")
    for init in (trained, trained.parent / "checkpoints/step_2", tmp_path / "hf"):
        found = initial_record(init)
        assert (found.sources, found.corpora) == (["synthetic"], {corpus.fingerprint: ["train"]}), init
    second = run(corpus, tmp_path / "second", tiny | {"init": str(unrecorded)})
    third = run(corpus, tmp_path / "third", tiny | {"init": str(second)})
    record = load_encoder(str(third)).provenance
    assert [one.sources for one in record.trainings] == [["synthetic"], ["synthetic"], None]
    assert record.before[0].sha256 == load_encoder(str(second)).provenance.sha256
    export(str(third), tmp_path / "again", "huggingface")
    assert load_encoder(str(tmp_path / "again")).provenance.trainings[1:] == record.trainings[1:]
    assert words(tmp_path / "again", "another", "synthetic", "nih") == ["image seen", "unknown"]


def test_going_on_from_the_encoder_that_ships_keeps_its_sources(corpus, tiny):
    shipped = initial_record(SHIPPED / "raddino-tiny")
    by_name = initial_record("raddino-tiny")
    assert by_name.sources == shipped.sources
    assert by_name.corpora == shipped.corpora
    record = run_record(config(init=str(SHIPPED / "raddino-tiny")), corpus, np.arange(4), {}, trained=False)
    assert record.all_sources == sorted({"synthetic", *shipped.sources})
    assert set(contamination(record, Tested(["nih", "Cohen", "kermany", "brax"], ["f"])).values()) == {
        "image seen",
        "clean",
    }
    assert record.all_synthetic == "mixed"


def test_a_fork_to_other_images_keeps_those_of_before(corpus):
    rows, nih = np.arange(8), Other(corpus, "nih", "n")
    first = run_record(config(), corpus, rows, {}, trained=False)
    told = {"provenance": first.to_dict()}
    assert run_record(config(), corpus, rows, told, trained=True) == first
    assert run_record(config(), nih, rows, told, trained=False).before == []
    forked = run_record(config(), nih, rows, told, trained=True)
    assert [one.sources for one in forked.trainings] == [["nih"], ["synthetic"]]
    assert run_record(config(), nih, rows, {"provenance": forked.to_dict()}, trained=True) == forked
    splits = run_record(config(splits=["train", "test"]), corpus, rows, told, trained=True)
    assert [one.corpora for one in splits.trainings] == [
        {corpus.fingerprint: ["train", "test"]},
        {corpus.fingerprint: ["train"]},
    ]


def test_before_the_first_step_the_record_is_that_of_the_initial_weights(corpus):
    mimic = Provenance(sources=["mimic-cxr"], supervision="text", licence="MIT", sha256="ab")
    record = replace(run_record(config(), corpus, np.arange(4), {}, trained=False), before=mimic.trainings)
    assert replace(at_step(record, 0, 8), note="") == mimic
    assert at_step(record, 3, 8).note == "After 3 steps of 8 images. Started from weights with sha256 ab."
    assert contamination(at_step(record, 3, 8), Tested(["mimic-cxr", "synthetic"], ["g"])) == {
        "mimic-cxr": "label seen",
        "synthetic": "image seen",
    }


def test_images_are_recognised_through_exports_resumes_and_chains(trained, unrecorded, corpus, tiny, tmp_path):
    table = corpus.manifest
    in_training = (table["split"] == "train").to_numpy()
    assert np.array_equal(load_encoder(str(trained)).seen_images.holds(table), in_training)
    assert load_encoder(str(trained.parent / "initial")).seen_images is None
    export(str(trained), tmp_path / "hf", "huggingface")
    others = CorpusView(corpus, np.flatnonzero(table["split"] != "train"))
    for number, init in enumerate([trained, trained.parent / "checkpoints/step_2", tmp_path / "hf"]):
        values = tiny | {"init": str(init), "splits": ["val", "test"], "batch_size": 4}
        second = run(others, tmp_path / str(number), values)
        assert load_encoder(str(second)).seen_images.holds(table).all()
        assert np.array_equal(load_encoder(str(second.parent / "initial")).seen_images.holds(table), in_training)
    file = tmp_path / "hf/model.safetensors"
    assert np.array_equal(initial_images(file).holds(table), in_training)
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    assert initial_images(file) is None
    forked = tiny | {"init": str(trained), "splits": ["test"], "batch_size": 4}
    assert load_encoder(str(run(others, tmp_path / "0", forked, fork=True))).seen_images.holds(table).all()
    unknown = run(others, tmp_path / "u", tiny | {"init": str(unrecorded), "splits": ["val", "test"], "batch_size": 4})
    assert np.array_equal(load_encoder(str(unknown)).seen_images.holds(table), ~in_training)


def test_the_same_run_writes_the_same_digests(trained, corpus, tiny, tmp_path):
    again = run(corpus, tmp_path / "run", tiny)
    assert (again / SEEN_IMAGES).read_bytes() == (trained / SEEN_IMAGES).read_bytes()
    assert (again / SEEN_IMAGES).read_bytes() == (again.parent / SEEN_IMAGES).read_bytes()


def test_a_fraction_is_seen_and_no_more(corpus, tiny, tmp_path):
    encoder = load_encoder(str(run(corpus, tmp_path / "run", tiny | {"fraction": 0.5, "batch_size": 4})))
    rows = training_rows(corpus, validate(PretrainConfig, tiny | {"fraction": 0.5, "batch_size": 4}))
    assert np.array_equal(np.flatnonzero(encoder.seen_images.holds(corpus.manifest)), rows)


def test_neither_size_nor_source_nor_patient_hides_an_image(trained, corpus, tmp_path):
    """The files of the training corpus, packed by someone else in another way."""
    files = corpus.path.parent / "sample"
    table = pd.read_csv(files / "manifest.csv", dtype=str)
    theirs = pd.DataFrame({"path": [str(files / path) for path in table["path"]], "split": "test"})
    theirs = theirs.assign(source="elsewhere", patient_id=[f"p{number}" for number in range(len(table))])
    theirs.to_csv(tmp_path / "manifest.csv", index=False)
    other = prepare(tmp_path / "manifest.csv", tmp_path / "other", shorter_side=40, workers=1)
    tested = Population(other, (), other.manifest).tested()
    _, identities, _ = load_encoders(tested, [str(trained), "hog"], None, "cpu")
    found = identities["trained"]
    in_training = int((corpus.manifest["split"] == "train").sum())
    assert found["recognised"] == {"elsewhere": {"images": len(other), "seen": in_training}}
    assert found["contamination"] == {"elsewhere": "recognised"}
    assert found["seen"] == "recognised"
    assert identities["hog"]["recognised"] is None
    assert identities["hog"]["seen"] == "clean"


def test_a_record_of_other_weights_or_a_damaged_one_is_refused(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "e")
    weights = load_file(tmp_path / "e/model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, tmp_path / "e/model.safetensors")
    with pytest.raises(RaddinoError, match="describes other weights"):
        initial_record(tmp_path / "e")
    (tmp_path / "e/raddino.json").write_text('{"provenance": {"sources": 7, "supervision": "none"}}', encoding="utf-8")
    with pytest.raises(RaddinoError, match="sources cannot be 7; restore the file") as refused:
        initial_record(tmp_path / "e")
    assert "\n" not in str(refused.value)


def test_an_exported_file_is_known_by_its_digest(tmp_path):
    folder = export("raddino-tiny", tmp_path / "official", "official")
    file = next(folder.glob("*.safetensors"))
    assert initial_record(file).sources == initial_record(SHIPPED / "raddino-tiny").sources
    save_file({name: tensor + 1 for name, tensor in load_file(file).items()}, file)
    assert initial_record(file).sources is None


def test_random_weights_have_seen_nothing(tmp_path):
    (tmp_path / "random_weights.json").write_text("{}", encoding="utf-8")
    save_file({}, tmp_path / "model.safetensors")
    assert initial_record(tmp_path).sources == []
