"""The case task from selection to records, its folder and the model in it."""

import hashlib
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from blob_corpus import EXCLUSIVE, OVERLAPPING, BlobCorpus, grey_encoder
from raddino.config import validate
from raddino.encoders.floors import Pixels
from raddino.encoders.ours import save_encoder
from raddino.errors import RaddinoError
from raddino.tables import write_table
from raddino.tasks.base import Absent, TaskConfig
from raddino.tasks.cases import CASE_TASKS, Job
from raddino.tasks.segmentation import work
from raddino.tasks.segmentation.model import SegmentationModel
from raddino.tasks.segmentation.predict import Predictor, drop_islands
from raddino.tasks.segmentation.score import score_case
from raddino.tasks.segmentation.settings import SegmentationConfig
from raddino.tasks.segmentation.shown import FOLDER, choose_shown, read_bits, read_shown, write_bits
from raddino.tasks.segmentation.task import Segmentation

TASK = Segmentation()
QUICK = {"steps": 60, "evaluate_every": 20, "batch_size": 6, "lr": 2e-2, "warmup": 5, "surface_tolerance": 2.0}


def job_of(tmp_path, coding=EXCLUSIVE, encoder=None, corpus=None, spec=None, **values):
    corpus = corpus or BlobCorpus(tmp_path)
    options = coding | QUICK | values
    column = "mask_bits" if coding is OVERLAPPING else "mask_values"
    config = TaskConfig(name="blobs", target=column, kind="segmentation", options=options)
    examples = TASK.select(corpus, config)
    return Job(
        corpus, examples, encoder or grey_encoder(), spec, validate(SegmentationConfig, options), tmp_path / "model",
        device="cpu", cache=tmp_path / "cache",
    )  # fmt: skip


def test_selection_counts_and_refuses(tmp_path):
    assert isinstance(CASE_TASKS["segmentation"], Segmentation)
    corpus = BlobCorpus(tmp_path)
    corpus.manifest.loc[1, "mask_values"] = None
    corpus.masks["values"][2] = np.full((48, 40), 7, np.uint8)
    examples = job_of(tmp_path, corpus=corpus).examples
    assert len(examples.rows) == 34
    assert examples.excluded["no mask"] == 1
    (said,) = [reason for reason in examples.excluded if reason.startswith("unusable mask (the first: ")]
    assert "value 7" in said
    assert examples.target[0] == pytest.approx((corpus.masks["values"][0] > 0).mean())
    config = examples.config
    with pytest.raises(Absent, match=r"no column 'mask_value'.* Did you mean 'mask_values'"):
        TASK.select(corpus, config.model_copy(update={"target": "value"}))
    with pytest.raises(Absent, match="test split has 8 patients with a mask; at least 10"):
        TASK.select(corpus, config.model_copy(update={"where": "id not in ['image5', 'image8', 'image11']"}))
    for row in corpus.rows("val"):
        corpus.masks["values"][row] = np.zeros((48, 40), np.uint8)
    with pytest.raises(Absent, match="val split: all 11 masks are empty"):
        TASK.select(corpus, config)


def test_encoders_that_cannot_serve_are_told(tmp_path):
    def options(**values):
        return validate(SegmentationConfig, EXCLUSIVE | values)

    assert TASK.needs(grey_encoder(), options(depths=4, finetune=True)) == ""
    assert "has no patch features" in TASK.needs(Pixels(), options())


@pytest.mark.parametrize("coding", [EXCLUSIVE, OVERLAPPING], ids=["exclusive", "overlapping"])
def test_a_head_learns_the_blobs_and_the_folder_remembers(tmp_path, coding, monkeypatch):
    job = job_of(tmp_path, coding, lr=0.05)
    (cases,) = TASK.run(job)
    metrics = {name: float(compute(None)) for name, compute in TASK.statistics(cases.records).items()}
    assert len(cases.records) == 12
    assert metrics["dice"] > 0.6
    assert cases.chosen["head"] == "linear"
    assert cases.chosen["step"] in (20, 40, 60)
    assert cases.chosen["options"]["classes"] == coding["classes"]

    monkeypatch.setattr(work, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    (again,) = TASK.run(job)
    assert again.records.equals(cases.records)
    assert again.chosen == cases.chosen

    entries = read_shown(job.folder)
    assert [one["place"] for one in entries] == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3
    dice = [one["dice"] for one in entries]
    assert min(dice[:3]) >= max(dice[3:6])
    assert min(dice[3:6]) >= max(dice[6:])
    position = list(job.corpus.rows("test")).index(entries[0]["row"])
    truth = work.Work(job).targets.read(entries[0]["row"])
    seen = score_case(read_bits(job.folder / FOLDER / entries[0]["file"]), truth, entries[0]["names"], 2.0)
    assert seen == pytest.approx(dict(cases.records.iloc[position]), nan_ok=True)


def test_records_are_those_of_the_saved_model_on_the_images(tmp_path):
    job = job_of(tmp_path)
    TASK.run(job)
    model = SegmentationModel.load(job.folder, job.encoder, "cpu")
    row = int(job.examples.rows[job.examples.at["test"][0]])
    found = model.segment(job.corpus.read(row))
    cached = work.Work(job).predict(model, row, found.shape)
    assert (found == cached).mean() > 0.995  # cached features are in half precision
    assert model.predict(job.corpus.read(row)).shape == (2, 48, 40)


def test_other_settings_replace_the_folder_and_foreign_files_are_safe(tmp_path):
    first = job_of(tmp_path, steps=4, evaluate_every=2)
    TASK.run(first)
    before = json.loads((first.folder / "segmentation.json").read_text(encoding="utf-8"))["key"]
    TASK.run(job_of(tmp_path, steps=4, evaluate_every=2, lr=1e-3))
    assert json.loads((first.folder / "segmentation.json").read_text(encoding="utf-8"))["key"] != before
    (first.folder / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RaddinoError, match=r"holds 'thesis\.txt', which no segmentation task wrote"):
        TASK.run(first)


def test_a_fine_tuned_encoder_is_saved_and_the_given_one_untouched(tmp_path):
    encoder = grey_encoder()
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    job = job_of(tmp_path, encoder=encoder, finetune=True, depths=4, steps=4, evaluate_every=2)
    (cases,) = TASK.run(job)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.model.state_dict().items())
    model = SegmentationModel.load(job.folder, encoder, "cpu")
    assert not torch.equal(model.network.trunk.blocks[0].attn.qkv.weight, before["blocks.0.attn.qkv.weight"])
    row = int(job.examples.rows[job.examples.at["test"][0]])
    truth = work.Work(job).targets.read(row)
    again = score_case(model.segment(job.corpus.read(row)), truth, model.names, 2.0)
    assert again == pytest.approx(dict(cases.records.iloc[0]), nan_ok=True)


def test_the_supervised_reference_trains_on_images(tmp_path):
    pytest.importorskip("segmentation_models_pytorch")
    from raddino.encoders.load import load_encoder

    job = job_of(
        tmp_path, encoder=load_encoder("unet"), spec="unet", steps=2, evaluate_every=2, batch_size=2, unet_side=32,
        unet_encoder="mobilenet_v2",
    )  # fmt: skip
    (cases,) = TASK.run(job)
    assert cases.chosen["head"] == "unet"
    assert (cases.chosen["input"], cases.chosen["images_seen"], cases.chosen["augmented"]) == (32, 4, True)
    assert cases.chosen["depths"] == []
    assert SegmentationModel.load(job.folder, device="cpu").predict(np.zeros((20, 70), np.uint8)).shape == (2, 20, 70)


def test_the_reference_starts_from_given_weights_and_names_them_without_their_place(tmp_path):
    smp = pytest.importorskip("segmentation_models_pytorch")
    from raddino.encoders.load import load_encoder

    torch.manual_seed(5)
    start = smp.encoders.get_encoder("mobilenet_v2", weights=None).state_dict()
    file = tmp_path / "mine.pth"
    torch.save(start, file)
    unet = {"encoder": load_encoder("unet"), "spec": "unet"}
    options = {"steps": 1, "evaluate_every": 1, "batch_size": 2, "unet_side": 32, "unet_encoder": "mobilenet_v2"}
    job = job_of(tmp_path / "job", **unet, **options, lr=1e-9, unet_weights=str(file))
    assert TASK.needs(job.encoder, job.options) == ""
    (cases,) = TASK.run(job)
    named = f"mine.pth sha256:{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
    assert cases.chosen["options"]["unet_weights"] == named
    assert str(tmp_path) not in (job.folder / "segmentation.json").read_text(encoding="utf-8")
    model = SegmentationModel.load(job.folder, device="cpu")
    assert model.record.options.unet_weights == named
    held = model.network.unet.encoder.state_dict()["features.1.conv.0.0.weight"]
    torch.testing.assert_close(held, start["features.1.conv.0.0.weight"])
    key = work.Work(job).key
    torch.save({name: one * 2 for name, one in start.items()}, file)
    assert work.Work(job).key != key
    file.unlink()
    assert "unet_weights: no file" in TASK.needs(job.encoder, job.options)


def test_damaged_models_and_wrong_encoders_are_refused(tmp_path):
    encoder = grey_encoder()
    place = save_encoder(
        tmp_path / "encoder", encoder.model, size=32, mean=0.5, std=0.25, name="grey", provenance=encoder.provenance
    )
    job = job_of(tmp_path, steps=2, evaluate_every=2, spec="../encoder", encoder=type(encoder).load(place, "cpu"))
    TASK.run(job)
    folder = job.folder
    assert SegmentationModel.load(folder, device="cpu").record.spec == "../encoder"
    with pytest.raises(RaddinoError, match="was trained on encoder 'grey' of fingerprint"):
        SegmentationModel.load(folder, grey_encoder(size=40), "cpu")
    shutil.move(place, tmp_path / "elsewhere")
    with pytest.raises(RaddinoError, match=r"cannot be loaded from .*: say where it is, with encoder= or --encoder"):
        SegmentationModel.load(folder, device="cpu")
    assert SegmentationModel.load(folder, str(tmp_path / "elsewhere"), "cpu").names == ("disc", "bar")
    with pytest.raises(RaddinoError, match="holds no segmentation model"):
        SegmentationModel.load(tmp_path)
    weights = folder / "head.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(RaddinoError, match=r"head\.safetensors is damaged"):
        SegmentationModel.load(folder, job.encoder, "cpu")
    weights.unlink()
    with pytest.raises(RaddinoError, match=r"lacks head\.safetensors"):
        SegmentationModel.load(folder, job.encoder, "cpu")
    (folder / "segmentation.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RaddinoError, match=r"segmentation\.json is damaged"):
        SegmentationModel.load(folder, job.encoder, "cpu")


@pytest.mark.parametrize("harm", ["records", "columns", "other model", "shown", "picture"])
def test_damaged_records_and_pictures_are_made_anew_without_training(tmp_path, harm):
    job = job_of(tmp_path, steps=2, evaluate_every=2)
    expected = TASK.run(job)[0].records
    weights, records = (job.folder / name for name in ("head.safetensors", "records.parquet"))
    before, table = weights.stat().st_mtime_ns, pd.read_parquet(records)
    if harm == "records":
        records.write_bytes(b"junk")
    elif harm == "columns":
        table.drop(columns=table.columns[2]).to_parquet(records)
    elif harm == "other model":
        write_table(records, table * 0, {"model": "another"})
    elif harm == "shown":
        (job.folder / "shown" / "shown.json").write_text("junk", encoding="utf-8")
    else:
        next((job.folder / "shown").glob("*.png")).unlink()
    pd.testing.assert_frame_equal(TASK.run(job)[0].records, expected)
    assert weights.stat().st_mtime_ns == before
    for case in read_shown(job.folder):
        read_bits(job.folder / "shown" / case["file"], case["sha256"])


def test_shown_images_are_chosen_once_each_and_bits_survive(tmp_path):
    assert choose_shown([0.1, 0.9, float("nan"), 0.5]) == {"best": [1], "median": [3], "worst": [0]}
    assert choose_shown([0.2]) == {"best": [0], "median": [], "worst": []}
    assert choose_shown([]) == {"best": [], "median": [], "worst": []}
    chosen = choose_shown(np.arange(20) / 20)
    assert chosen == {"best": [19, 18, 17], "median": [11, 10, 9], "worst": [0, 1, 2]}
    bits = np.array([[0, 1, 1 << 23], [1 << 8, (1 << 24) - 1, 5]], np.int32)
    write_bits(tmp_path / "a.png", bits)
    np.testing.assert_array_equal(read_bits(tmp_path / "a.png"), bits)
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(RaddinoError, match="missing or damaged"):
        read_bits(tmp_path / "a.png")


def test_a_class_that_no_training_mask_holds_is_said(tmp_path):
    job = job_of(tmp_path, steps=2, evaluate_every=2, classes={**EXCLUSIVE["classes"], "ghost": 77})
    for _ in range(2):
        (cases,) = TASK.run(job)
        assert cases.notes == {"absent": {"dice (ghost)": "no training mask holds the class"}}


def test_masks_drawn_in_two_ways_are_not_pooled_unless_asked(tmp_path):
    corpus = BlobCorpus(tmp_path)
    corpus.manifest.loc[::2, "source"] = "other"
    corpus.info["conventions"] = {"values": {"toy": ["with the heart"], "other": ["without"]}}
    config = TaskConfig(name="blobs", target="mask_values", kind="segmentation", options=EXCLUSIVE)
    with pytest.raises(
        Absent, match=r"mask_values is not drawn in one way \(without: other; with the heart: toy\)"
    ) as no:
        TASK.select(corpus, config)
    assert "\n" not in str(no.value)
    everything = TASK.select(corpus, config.model_copy(update={"options": EXCLUSIVE | {"pool_conventions": True}}))
    corpus.info["conventions"]["values"]["other"] = ["with the heart"]
    assert len(TASK.select(corpus, config).rows) == len(everything.rows)
    corpus.info["conventions"]["values"]["other"] = ["without"]
    with pytest.raises(Absent, match="at least 10 are needed"):
        TASK.select(corpus, config.model_copy(update={"where": "source in ['other']"}))


def test_test_predictions_are_judged_without_islands(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).random((2, 48, 40), np.float32)
    monkeypatch.setattr(Predictor, "of_logits", lambda self, logits, shape: noise / noise.sum(0).clip(1))
    found = {}
    for share in (0.0, 1.0):
        made = work.Work(job_of(tmp_path / str(share), drop_islands=share, steps=1))
        found[share] = made.predict(made.model(), int(made.rows("test")[0]), (48, 40))
    np.testing.assert_array_equal(found[1.0], drop_islands(found[0.0], 2, 1.0))
    assert (found[1.0] != found[0.0]).any()
