"""Kept probes on files: the numbers of the evaluation, refusals of other encoders, and what cannot be read."""

import json
import shutil
import stat

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file
from scipy.special import expit, logit, softmax

from compressed_dicom import JPEG_LOSSLESS, dicom, drawn, jpeg_lossless
from features.embed_job import small_vit
from raddino.benchmark.evaluate import evaluate
from raddino.cli import main
from raddino.corpus.dataset import Corpus
from raddino.corpus.prepare import prepare
from raddino.encoders.ours import save_encoder
from raddino.errors import ConfigError, RaddinoError
from raddino.files import write_json
from raddino.tasks.predict import predict
from raddino.tasks.probes.kept import KeptProbe

TASKS = [
    {"name": "x", "target": "label_x", "kind": "binary"},
    {"name": "kind of view", "target": "view", "kind": "multiclass"},
    {"name": "age", "target": "age", "kind": "regression"},
    {"name": "PA", "target": "view", "kind": "binary", "positive": "PA"},
]
PROBE = {"seeds": 2, "steps": 60, "learning_rates": [0.1], "weight_decays": [0.01], "features": "both"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("place")
    folder, rng, rows = place / "images", np.random.default_rng(0), []
    folder.mkdir()
    for n in range(120):
        label = n // 4 % 2
        pixels = rng.normal(20_000 + 9_000 * label * np.linspace(1, 0, 40)[None], 5_000, (48, 40)).clip(0, 65_535)
        Image.fromarray(pixels.astype(np.uint16)).save(folder / f"{n}.png")
        rows.append({"path": f"{n}.png", "patient_id": f"p{n}", "label_x": label, "age": 1 + n / 2,
                     "view": ["AP", "PA"][n // 8 % 2], "split": ["train", "train", "val", "test"][n % 4]})  # fmt: skip
    pd.DataFrame(rows).to_csv(place / "manifest.csv", index=False)
    pd.DataFrame(rows).assign(path=[f"images/{row['path']}" for row in rows]).to_csv(
        place / "manifest.csv", index=False
    )
    prepare(place / "manifest.csv", place / "corpus", workers=1, shorter_side=24, bits=16)
    made = small_vit()
    save_encoder(place / "encoder", made.model, size=24, mean=0.4, std=0.2, name="small", provenance=made.provenance)
    (place / "suite.yaml").write_text(yaml.safe_dump({"tasks": TASKS, "probe": PROBE}), encoding="utf-8")
    evaluate(Corpus.open(place / "corpus"), [place / "encoder"], names=["small"], suite=place / "suite.yaml",
             out=place / "results", resamples=20, device="cpu")  # fmt: skip
    return place


def folders(place):
    return sorted(path.parent for path in (place / "results" / "probes").glob("*/*/probe.json"))


def test_predictions_are_those_of_the_evaluation(place, tmp_path):
    done = predict(place / "images", folders(place), tmp_path / "out.csv", device="cpu", batch_size=7)
    assert (done.images, done.skipped) == (120, {})
    table = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert (table["note"] == "not for clinical use").all()
    manifest = Corpus.open(place / "corpus").manifest.set_index("id")
    expected = pd.read_parquet(place / "results" / "predictions.parquet")
    expected["image"] = [f"{round(2 * (manifest['age'][one] - 1))}.png" for one in expected["id"]]
    rows = json.loads((place / "results" / "metrics.json").read_text(encoding="utf-8"))["rows"]
    temperature = next(row["detail"]["temperature"] for row in rows if row["metric"] == "brier_temperature")
    for task, own in expected.groupby("task"):
        found = table[table["task"] == task]
        if task == "kind of view":
            found = found.assign(value=found["value"].astype(float))
            assert np.allclose(found.groupby("image")["value"].sum(), 1, atol=3e-6)
            likeliest = found.loc[found.groupby("image")["value"].idxmax()].set_index("image")["class"]
            assert (likeliest[own["image"]].map({"AP": 0, "PA": 1}).to_numpy() == own["score"].to_numpy()).all()
            continue
        found = found.set_index("image").loc[own["image"]]
        column = "value" if task == "age" else "uncalibrated"
        assert set(found["class"]) == {"PA" if task == "PA" else ""}
        np.testing.assert_allclose(found[column].astype(float), own["score"], atol=1e-5)
        if task == "x":
            scaled = expit(logit(own["score"].to_numpy()) / temperature)
            np.testing.assert_allclose(found["value"].astype(float), scaled, atol=1e-5)
            assert abs(temperature - 1) > 0.01


def test_a_probe_that_read_the_grid_reads_it_again(place, tmp_path):
    corpus = Corpus.open(place / "corpus")
    evaluate(corpus, [place / "encoder"], names=["small"], suite=place / "suite.yaml", out=place / "grid",
             probe=PROBE | {"features": "grid"}, resamples=20, device="cpu")  # fmt: skip
    grid = place / "grid" / "probes" / "age" / "small"
    assert KeptProbe.load(grid).record.features == "grid"
    predict(
        place / "images", [grid, place / "results" / "probes" / "age" / "small"], tmp_path / "out.csv", device="cpu"
    )
    found = pd.read_csv(tmp_path / "out.csv").groupby("image")["value"]
    assert (found.nunique() == 2).mean() > 0.9
    expected = pd.read_parquet(place / "grid" / "predictions.parquet").query("task == 'age'")
    ages = corpus.manifest.set_index("id").loc[expected["id"], "age"]
    image = [f"{round(2 * (age - 1))}.png" for age in ages]
    np.testing.assert_allclose(found.first()[image], expected["score"], atol=1e-4)


def test_thresholds_and_temperatures_come_from_validation(place):
    probe = KeptProbe.load(next(one for one in folders(place) if one.parent.name == "x"))
    rows = json.loads((place / "results" / "metrics.json").read_text(encoding="utf-8"))["rows"]
    said = next(row["detail"]["threshold"] for row in rows if row["metric"] == "sensitivity_at_specificity_90")
    assert probe.record.thresholds["specificity_90"] == pytest.approx(expit(logit(said) / probe.record.temperature))
    assert probe.record.sources == ["local"] or len(probe.record.sources) == 1
    assert probe.record.images == {"train": 60, "val": 30, "test": 30}
    assert (probe.record.shorter_side, probe.record.bits) == (24, 16)
    views = KeptProbe.load(next(one for one in folders(place) if one.parent.name.startswith("kind")))
    z = np.random.default_rng(0).normal(size=(5, len(views.weight)))
    np.testing.assert_allclose(views.answers(z, calibrated=False), softmax(views.outputs(z), axis=1))
    assert views.record.temperature != 1


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(place, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(place / "images" / "3.png", folder / "good.png")
    (folder / "bad.png").write_bytes((place / "images" / "3.png").read_bytes()[:200])
    done = predict(folder, folders(place)[:1], tmp_path / "out.csv", device="cpu")
    assert done.images == 1
    assert sum(done.skipped.values()) == 1
    table = pd.read_csv(tmp_path / "out.csv", keep_default_na=False).set_index("image")
    assert table.loc["bad.png", "reason"] in done.skipped
    assert table.loc["bad.png", "value"] == ""
    assert float(table.loc["good.png", "value"])
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o600


def test_nothing_that_can_be_read_is_an_error_and_the_file_says_why(place, tmp_path):
    folder = tmp_path / "none"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.png").write_bytes((place / "images" / "3.png").read_bytes()[:200])
    (folder / "c.dcm").write_bytes(b"")
    with pytest.raises(
        RaddinoError, match=r"no image could be read: 2 x [^;]*; 1 x empty file\. See .*out\.csv"
    ) as error:
        predict(folder, folders(place)[:1], tmp_path / "out.csv", device="cpu")
    assert "a.png" not in str(error.value)
    assert pd.read_csv(tmp_path / "out.csv")["reason"].notna().sum() == 3


def test_what_reading_noticed_stands_beside_the_value(place, tmp_path):
    stream = jpeg_lossless(drawn(8), 8)
    (tmp_path / "knee.dcm").write_bytes(dicom(stream, JPEG_LOSSLESS, (96, 128), 8, BodyPartExamined="TRUNK"))
    done = predict(tmp_path / "knee.dcm", folders(place)[:1], tmp_path / "out.csv", device="cpu")
    assert done.warnings == {"body part is not known to be the chest": 1}
    assert set(pd.read_csv(tmp_path / "out.csv")["note"]) == {
        "not for clinical use; body part is not known to be the chest"
    }


def test_another_encoder_is_refused(place, tmp_path):
    made = small_vit()
    for tensor in made.model.parameters():
        tensor.data.mul_(1.01)
    save_encoder(tmp_path / "other", made.model, size=24, mean=0.4, std=0.2, name="o", provenance=made.provenance)
    with pytest.raises(RaddinoError, match="give the one it was trained on") as error:
        predict(place / "images", folders(place), tmp_path / "out.csv", encoder=str(tmp_path / "other"), device="cpu")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.csv").exists()
    moved = shutil.copytree(place / "encoder", tmp_path / "moved")
    assert predict(place / "images" / "1.png", folders(place), tmp_path / "o.csv", encoder=str(moved)).images == 1


def test_impossible_requests_are_one_line(place, tmp_path):
    with pytest.raises(ConfigError, match="no probe"):
        predict(place / "images", [], tmp_path / "out.csv")
    with pytest.raises(ConfigError, match="batch_size"):
        predict(place / "images", folders(place), tmp_path / "out.csv", batch_size=0)
    with pytest.raises(ConfigError, match="is a folder"):
        predict(place / "images", folders(place), tmp_path)
    with pytest.raises(RaddinoError, match="holds no probe"):
        predict(place / "images", [place / "images"], tmp_path / "out.csv")
    lacking = shutil.copytree(folders(place)[0], tmp_path / "lacking")
    (lacking / "probe.safetensors").unlink()
    with pytest.raises(RaddinoError, match="lacks"):
        predict(place / "images", [lacking], tmp_path / "out.csv")
    swapped = shutil.copytree(folders(place)[0], tmp_path / "swapped")
    shutil.copy(folders(place)[1] / "probe.safetensors", swapped)
    with pytest.raises(RaddinoError, match="not the file"):
        predict(place / "images", [swapped], tmp_path / "out.csv")
    assert load_file(folders(place)[0] / "probe.safetensors")["weight"].dtype == np.float64


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shorter_side": 0}, "damaged .shorter_side"),
        ({"bits": 64}, "damaged .bits"),
        ({"spec": "x" * 5000}, "cannot be loaded"),
    ],
)
def test_a_foreign_record_is_one_line(place, tmp_path, changes, words):
    foreign = shutil.copytree(folders(place)[0], tmp_path / "foreign")
    said = json.loads((foreign / "probe.json").read_text(encoding="utf-8"))
    said.pop("seal")
    write_json(foreign / "probe.json", said | changes)
    with pytest.raises(RaddinoError, match=words):
        predict(place / "images", [foreign], tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_probes_of_an_earlier_evaluation_do_not_stay(place, tmp_path):
    out = shutil.copytree(place / "results", tmp_path / "results")
    evaluate(Corpus.open(place / "corpus"), [place / "encoder"], suite=place / "suite.yaml", out=out, resamples=20,
             device="cpu", probe="knn")  # fmt: skip
    assert not (out / "probes").exists()


def test_a_fitted_encoder_is_told(place, tmp_path):
    evaluate(Corpus.open(place / "corpus"), ["pca"], targets=["label_x"], out=tmp_path / "r", resamples=20)
    folder = next((tmp_path / "r" / "probes").glob("*/*"))
    with pytest.raises(
        RaddinoError, match=r"'pca', which is fitted on the corpus .* choose a probe of another encoder"
    ):
        predict(place / "images", [folder], tmp_path / "out.csv")
    with pytest.raises(RaddinoError, match=r"'pca', which is fitted on the corpus .* give the one it was trained on"):
        predict(place / "images", folders(place), tmp_path / "out.csv", encoder="pca")


def test_names_that_look_like_formulas_come_back_as_they_are(place, tmp_path):
    names = {"=1+1.png", "+1.png", "-1.png", "@SUM(A1).png", "a,'\"b.png"}
    (tmp_path / "images").mkdir()
    for name in names:
        shutil.copy(place / "images" / "1.png", tmp_path / "images" / name)
    predict(tmp_path / "images", folders(place)[:1], tmp_path / "out.csv", device="cpu")
    assert set(pd.read_csv(tmp_path / "out.csv")["image"]) == names


def test_the_command_says_what_it_is_not_for_and_no_names(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(place / "images" / "1.png", tmp_path / "Doe^Jane.png")
    (tmp_path / "Roe^Richard.png").write_bytes(b"nothing")
    monkeypatch.setattr("sys.argv", ["raddino", "predict", str(tmp_path), "--probe", str(folders(place)[0])])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    said = capsys.readouterr()
    assert "not for clinical use" in said.out
    assert "Doe" not in said.out + said.err
    assert "Roe" not in said.out + said.err
    assert set(pd.read_csv(tmp_path / "predictions.csv")["image"]) == {"Doe^Jane.png", "Roe^Richard.png"}
