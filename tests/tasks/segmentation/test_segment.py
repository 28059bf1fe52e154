"""``raddino segment`` on PNG and DICOM: sizes, values, names, resumption; objects read back by highdicom."""

import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from blob_corpus import EXCLUSIVE, OVERLAPPING, BlobCorpus, grey_encoder
from compressed_dicom import JPEG_LOSSLESS, dicom, drawn, jpeg_lossless
from raddino.config import validate
from raddino.encoders.ours import save_encoder
from raddino.errors import ConfigError, RaddinoError
from raddino.images.wall import ENDED
from raddino.sample.generate import sample
from raddino.tasks.segmentation.codes import FALLBACK, PATTERNS, codes_of
from raddino.tasks.segmentation.contours import PALETTE, draw_contours
from raddino.tasks.segmentation.model import ModelRecord, SegmentationModel
from raddino.tasks.segmentation.network import build_network
from raddino.tasks.segmentation.predict import drop_islands, to_bits
from raddino.tasks.segmentation.segment import segment
from raddino.tasks.segmentation.settings import SegmentationConfig


def model_in(folder, coding, shorter_side=40):
    """A model whose head nobody trained, with its encoder beside it."""
    made = grey_encoder()
    place = save_encoder(
        folder / "encoder", made.model, size=32, mean=0.5, std=0.25, name="grey", provenance=made.provenance
    )
    encoder = type(made).load(place, "cpu")
    options = validate(SegmentationConfig, coding)
    about = {"name": "grey", "fingerprint": encoder.fingerprint, "provenance": {}}
    record = ModelRecord(options, tuple(options.classes), str(place), about, "0" * 16, shorter_side, 32, {})
    network = build_network(encoder, options, device="cpu").eval()
    SegmentationModel(network, record).save(folder / "model")
    return folder / "model"


@pytest.fixture
def images(tmp_path):
    """Two images of other sizes than the model was trained on, one of them below, and a text."""
    folder = tmp_path / "images"
    (folder / "below").mkdir(parents=True)
    corpus = BlobCorpus(tmp_path, n=2, height=130, width=90)
    Image.fromarray(corpus.read(0)).save(folder / "a.png")
    Image.fromarray(corpus.read(1)).save(folder / "below" / "b.png")
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    return folder


def test_png_at_the_size_of_the_image_and_again(tmp_path, images):
    model, out = model_in(tmp_path, EXCLUSIVE), tmp_path / "out"
    done = segment(images, model, out, contours=True, device="cpu")
    assert (done.written, done.present, sum(done.skipped.values())) == (2, 0, 1)
    assert (out / "skipped.csv").read_text(encoding="utf-8").splitlines()[1].startswith('notes.txt,"not a DICOM')
    mask = np.asarray(Image.open(out / "below" / "b.png.png"))
    assert mask.shape == (130, 90)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1, 2}
    about = json.loads((out / "segment.json").read_text(encoding="utf-8"))
    assert [(one["name"], one["value"]) for one in about["classes"]] == [("disc", 1), ("bar", 2)]
    assert np.asarray(Image.open(out / "a.png.contours.png")).shape == (58, 40, 3)

    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.png")}
    (out / "a.png.png").unlink()
    again = segment(images, model, out, contours=True, device="cpu")
    assert (again.written, again.present) == (1, 1)
    assert (out / "below" / "b.png.png").stat().st_mtime_ns == before[out / "below" / "b.png.png"]


def test_members_of_an_archive_are_segmented_as_files_are(tmp_path, images):
    model = model_in(tmp_path, EXCLUSIVE)
    segment(images, model, tmp_path / "files", device="cpu")
    archive = shutil.make_archive(str(tmp_path / "x"), "gztar", images)
    done = segment(archive, model, tmp_path / "members", device="cpu")
    assert (done.written, sum(done.skipped.values())) == (2, 1)
    for name in ("a.png", "below/b.png"):
        before, after = tmp_path / "files" / f"{name}.png", tmp_path / "members" / f"x.tar.gz::{name}.png"
        assert before.read_bytes() == after.read_bytes()


def test_dicom_seg_of_a_member_is_refused_by_name(tmp_path):
    pytest.importorskip("highdicom")
    sample(tmp_path / "made", 1, size=96, format="dicom", workers=1)
    archive = shutil.make_archive(str(tmp_path / "x"), "zip", tmp_path / "made" / "images")
    with pytest.raises(RaddinoError, match="DICOM SEG is written of files only"):
        segment(archive, model_in(tmp_path, OVERLAPPING), tmp_path / "out", format="dicom-seg", device="cpu")


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path, images):
    try:
        shutil.copy(images / "a.png", images / os.fsdecode(b"M\xfc.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (images / os.fsdecode(b"n\xfc.txt")).write_text("no image", encoding="utf-8")
    done = segment(images, model_in(tmp_path, EXCLUSIVE), tmp_path / "out", contours=True, device="cpu")
    assert (done.written, sum(done.skipped.values())) == (3, 2)
    assert (tmp_path / "out" / os.fsdecode(b"M\xfc.png.png")).is_file()
    assert r"n\udcfc.txt" in (tmp_path / "out/skipped.csv").read_text(encoding="utf-8")


def test_a_file_that_kills_its_decoder_is_listed_and_the_rest_goes_on(tmp_path, images, monkeypatch, capfd):
    (tmp_path / "decoder").mkdir()
    (tmp_path / "decoder/gdcm.py").write_text("import os\nos.abort()\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "decoder")
    killer = dicom(jpeg_lossless(drawn(8), 8), JPEG_LOSSLESS, (96, 128), 8)
    (images / "a0.dcm").write_bytes(killer)
    done = segment(images, model_in(tmp_path, EXCLUSIVE), tmp_path / "out", device="cpu")
    assert done.written == 2
    assert done.skipped[ENDED] == 1
    assert f"a0.dcm,{ENDED}" in (tmp_path / "out/skipped.csv").read_text(encoding="utf-8").splitlines()
    assert "terminate" not in capfd.readouterr().err


def test_a_size_that_the_model_sees_gives_its_own_bits(tmp_path):
    model = model_in(tmp_path, OVERLAPPING, shorter_side=None)
    image = BlobCorpus(tmp_path, n=1).read(0)
    image[0, :2] = 0, 255  # so that grey levels stay
    (tmp_path / "x[1]").mkdir()
    Image.fromarray(image).save(tmp_path / "x[1]" / "one [2].png")
    done = segment(tmp_path / "x[1]" / "one [2].png", model, tmp_path / "out", device="cpu")
    assert done.written == 1
    bits = SegmentationModel.load(model, device="cpu").segment(image)
    for position, name in enumerate(("disc", "bar")):
        mask = np.asarray(Image.open(tmp_path / "out" / f"one [2].png.{name}.png"))
        np.testing.assert_array_equal(mask, (bits >> position & 1) * 255)


def test_what_is_not_ours_is_refused(tmp_path, images):
    model = model_in(tmp_path, EXCLUSIVE)
    with pytest.raises(RaddinoError, match="was not written by 'raddino segment'"):
        segment(images, model, images, device="cpu")
    with pytest.raises(ConfigError, match="format takes png or dicom-seg, got 'nifti'"):
        segment(images, model, tmp_path / "out", format="nifti", device="cpu")
    with pytest.raises(RaddinoError, match="no file in"):
        segment(tmp_path / "none", model, tmp_path / "out", device="cpu")
    segment(images, model, tmp_path / "out", device="cpu")
    (tmp_path / "other").mkdir()
    with pytest.raises(RaddinoError, match="holds masks of another model, format, header or drop_islands"):
        segment(images, model_in(tmp_path / "other", OVERLAPPING), tmp_path / "out", device="cpu")


def test_dicom_seg_reads_back_at_the_stored_size(tmp_path):
    highdicom = pytest.importorskip("highdicom")
    from pydicom import dcmread

    sample(tmp_path / "made", 2, size=96, format="dicom", workers=1)
    images = tmp_path / "made" / "images"
    Image.fromarray(BlobCorpus(tmp_path, n=1).read(0)).save(images / "plain.png")
    source = dcmread(file := sorted(images.glob("*.dcm"))[0])
    source.PixelSpacing = [0.2, 0.2]
    source.save_as(file)
    model = model_in(tmp_path, OVERLAPPING)
    done = segment(str(images / "*"), model, tmp_path / "out", format="dicom-seg", device="cpu")
    assert done.written == 2
    assert done.skipped == {"DICOM SEG is written of DICOM files only": 1}
    segment(str(images / "*"), model, tmp_path / "png", device="cpu")
    made = highdicom.seg.segread(tmp_path / "out" / f"{file.name}.seg.dcm")
    assert made.segmentation_type.value == "BINARY"
    assert (made.Rows, made.Columns) == (96, 96)
    assert made.StudyInstanceUID == source.StudyInstanceUID
    assert [one.segment_label for one in made.SegmentSequence] == ["disc", "bar"]
    masks = made.get_pixels_by_source_instance([source.SOPInstanceUID], combine_segments=False)[0]
    for position, name in enumerate(("disc", "bar")):
        png = np.asarray(Image.open(tmp_path / "png" / f"{file.name}.{name}.png"))
        np.testing.assert_array_equal(masks[..., position] * 255, png)


def test_secondary_capture_must_be_asked_for(tmp_path):
    from pydicom import dcmread

    sample(tmp_path / "made", 1, size=96, format="dicom", workers=1)
    file = next((tmp_path / "made" / "images").glob("*.dcm"))
    source = dcmread(file)
    source.ConversionType = "WSD"
    source.save_as(file)
    model = model_in(tmp_path, OVERLAPPING)
    with pytest.raises(RaddinoError, match=r"no image could be segmented: 1 x secondary capture.*skipped\.csv"):
        segment(file, model, tmp_path / "plain", device="cpu")
    assert (tmp_path / "plain" / "skipped.csv").read_text(encoding="utf-8").count(file.name) == 1
    assert segment(file, model, tmp_path / "asked", secondary_capture=True, device="cpu").written == 1


def test_what_reading_noticed_is_told(tmp_path):
    stream = jpeg_lossless(drawn(8), 8)
    (tmp_path / "knee.dcm").write_bytes(dicom(stream, JPEG_LOSSLESS, (96, 128), 8, BodyPartExamined="TRUNK"))
    done = segment(tmp_path / "knee.dcm", model_in(tmp_path, OVERLAPPING), tmp_path / "out", device="cpu")
    assert done.warnings == {"body part is not known to be the chest": 1}


def test_codes_are_in_pydicoms_dictionary():
    from pydicom.sr._concepts_dict import concepts

    known = {code for meanings in concepts["SCT"].values() for code in meanings}
    for _, category, kind in (*PATTERNS, ("", *FALLBACK)):
        assert category[0] in known
        assert kind[0] in known
    assert codes_of("right upper lung zone")[1][1] == "Upper zone of lung"
    assert codes_of("left lung")[1][1] == "Lung"
    assert codes_of("Central venous line")[0][1] == "Physical object"
    assert codes_of("upper lip") == codes_of("tribes") == FALLBACK


def test_contours_follow_the_inner_border():
    image = np.full((20, 20), 60000, np.uint16)
    bits = np.zeros((20, 20), np.int32)
    bits[5:10, 5:12] = 2
    drawn = draw_contours(image, bits, 2)
    outline = (drawn == PALETTE[1]).all(-1)
    assert outline.sum() == 2 * 7 + 2 * 3
    assert not outline[6:9, 6:11].any()
    assert (drawn[~outline] == 60000 >> 8).all()


def patchy(model, image):
    """Probabilities of two classes, each in many pieces."""
    noise = np.random.default_rng(image.sum()).random((2, *image.shape), np.float32)
    return noise / noise.sum(0).clip(1)


@pytest.mark.parametrize("coding", [EXCLUSIVE, OVERLAPPING], ids=["exclusive", "overlapping"])
def test_islands_are_dropped_from_what_is_written(tmp_path, images, coding, monkeypatch):
    monkeypatch.setattr(SegmentationModel, "predict", patchy)
    model = model_in(tmp_path, coding)
    whole, clean = tmp_path / "whole", tmp_path / "clean"
    segment(images, model, whole, device="cpu")
    segment(images, model, clean, drop_islands=1, contours=True, device="cpu")
    assert "drop_islands" not in json.loads((whole / "segment.json").read_text(encoding="utf-8"))
    assert json.loads((clean / "segment.json").read_text(encoding="utf-8"))["drop_islands"] == 1
    dropped = 0
    for file in whole.rglob("*.png"):
        mask, kept = (np.asarray(Image.open(place / file.relative_to(whole))) for place in (whole, clean))
        for value in set(np.unique(mask)) - {0}:
            bits = drop_islands((mask == value).astype(np.int32), 1, 1)
            np.testing.assert_array_equal(kept == value, bits == 1)
            dropped += int((mask == value).sum() - bits.sum())
    assert dropped
    with pytest.raises(RaddinoError, match="another model, format, header or drop_islands"):
        segment(images, model, clean, drop_islands=0.5, device="cpu")
    with pytest.raises(ConfigError, match="drop_islands takes a share of 0 to 1, got 2"):
        segment(images, model, clean, drop_islands=2, device="cpu")


def test_a_model_drops_islands_as_it_was_judged(tmp_path, images, monkeypatch):
    monkeypatch.setattr(SegmentationModel, "predict", patchy)
    segment(images, model_in(tmp_path, EXCLUSIVE | {"drop_islands": 0.4}), tmp_path / "own", device="cpu")
    assert json.loads((tmp_path / "own/segment.json").read_text(encoding="utf-8"))["drop_islands"] == 0.4
    segment(images, tmp_path / "model", tmp_path / "off", drop_islands=0, device="cpu")
    assert "drop_islands" not in json.loads((tmp_path / "off/segment.json").read_text(encoding="utf-8"))
    image = np.asarray(Image.open(images / "a.png"))
    loaded = SegmentationModel.load(tmp_path / "model", device="cpu")
    bits = to_bits(loaded.predict(image), True)
    np.testing.assert_array_equal(loaded.segment(image), drop_islands(bits, 2, 0.4))
    assert (loaded.segment(image) != bits).any()
