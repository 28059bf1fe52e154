"""Bad input and failing parts through the whole evaluation: clear refusals, or stated exclusions that cost no more."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from memory_corpus import toy_corpus
from raddino.benchmark.analyses.base import ANALYSES
from raddino.benchmark.evaluate import evaluate
from raddino.benchmark.results import Results, public
from raddino.encoders.base import ENCODERS, Family, Features, Provenance
from raddino.errors import ConfigError, RaddinoError
from raddino.report.terminal import text_table

TASKS = [
    {"name": "left", "target": "label_left", "kind": "binary"},
    {"name": "noise", "target": "label_noise", "kind": "binary"},
    {"name": "age", "target": "age", "kind": "regression"},
]
PROBE = {"seeds": 2, "steps": 60, "learning_rates": [0.1], "weight_decays": [0.01]}


class Halves:
    """Means of the left and the right half and a pixel; counts the images it sees."""

    name, dim, grid, fingerprint = "halves", 3, None, "halves-1"
    provenance = Provenance(sources=["toy"], supervision="text")

    def __init__(self):
        self.seen = 0

    def preprocess(self, images):
        self.seen += len(images)
        return torch.stack([torch.from_numpy(image.astype(np.float32)) for image in images])

    def encode(self, batch):
        left, right = batch.chunk(2, dim=2)
        return Features(torch.stack([left.mean((1, 2)), right.mean((1, 2)), batch[:, 0, 0]], 1), None)


class Pixels(Halves):
    name, fingerprint, provenance = "pixels", "pixels-1", Provenance()

    def encode(self, batch):
        return Features(batch[:, 3, 2:5].clone(), None)


class NaNs(Halves):
    name, fingerprint = "nan", "nan-1"

    def encode(self, batch):
        cls = super().encode(batch).cls
        cls[-1, 0] = torch.nan
        return Features(cls, None)


class WrongShape(Halves):
    name, fingerprint = "wrong", "wrong-1"

    def encode(self, batch):
        return Features(super().encode(batch).cls[:, :2], None)


class Interrupted(Halves):
    name, fingerprint = "interrupted", "interrupted-1"

    def encode(self, batch):
        raise KeyboardInterrupt


@pytest.fixture
def corpus(tmp_path):
    return toy_corpus(tmp_path / "corpus")


def judge(corpus, encoders, tmp_path, *, tasks=TASKS, out="results", macro=None, **options):
    suite = tmp_path / "suite.yaml"
    plan = {"tasks": tasks, "probe": PROBE, "macro": macro or {}, "analyses": options.pop("analyses", [])}
    suite.write_text(yaml.safe_dump(plan), encoding="utf-8")
    return evaluate(corpus, encoders, suite=suite, out=tmp_path / out, resamples=50, **options)


def reasons(results, encoder=None):
    return {gap["task"]: gap["reason"] for gap in results.data["absent"] if gap["encoder"] == encoder}


@pytest.mark.parametrize(("broken", "words"), [(NaNs, "NaN or infinity"), (WrongShape, "it promised (32, 3)")])
def test_features_that_would_spoil_numbers_cost_their_encoder_only(corpus, tmp_path, broken, words):
    results = judge(corpus, [Halves(), broken(), Pixels()], tmp_path)
    assert set(results.rows()["encoder"]) == {"halves", "pixels"}
    assert set(reasons(results, broken.name)) == {"left", "noise", "age"}
    assert all(words in reason for reason in reasons(results, broken.name).values())
    assert next(one for one in results.data["encoders"] if one["name"] == broken.name)["fingerprint"] is None


def test_the_first_working_encoder_is_the_reference(corpus, tmp_path):
    results = judge(corpus, [NaNs(), Halves(), Pixels()], tmp_path)
    gaps = [row["difference"] for row in results.data["rows"] if row["encoder"] == "pixels"]
    assert {gap["to"] for gap in gaps} == {"halves"}
    assert reasons(results)[None] == "nan has no value at all, so all differences are to halves"
    assert f"differences: {reasons(results)[None]}" in text_table(results.data)


def test_missing_weights_are_listed_without_the_path_and_a_typo_is_refused_at_once(corpus, tmp_path, monkeypatch):
    def load(place, device):
        raise RaddinoError("no weights of gated-net in /home/somebody/weights/gated-net: get them from https://x.org/y")

    family = Family(load, "needs weights", Provenance(sources=["toy"], supervision="labels"))
    monkeypatch.setitem(ENCODERS._things, "gated-net", family)
    results = judge(corpus, [Halves(), "gated-net"], tmp_path)
    assert set(reasons(results, "gated-net").values()) == {
        "no weights of gated-net in …/gated-net: get them from https://x.org/y"
    }
    told = results.data["encoders"][1]
    assert (told["name"], told["dim"], told["seen"]) == ("gated-net", None, "label seen")
    seeing = Halves()
    with pytest.raises(RaddinoError, match="gated-net"):
        judge(corpus, [seeing, "gated-nett"], tmp_path, out="typo")
    assert not seeing.seen
    assert not (tmp_path / "typo").exists()
    with pytest.raises(RaddinoError, match="every encoder failed: no weights of gated-net"):
        judge(corpus, ["gated-net"], tmp_path, out="alone")


def test_a_probe_that_fails_on_one_task_leaves_the_others_as_they_were(corpus, tmp_path, monkeypatch):
    whole = judge(corpus, [Halves(), Pixels()], tmp_path, out="whole", macro={"mean": ["left", "noise"]})
    from raddino.benchmark import probing as module

    fit = module._probe

    def failing(name, features, examples, *rest):
        if name == "halves" and any(one.config.name == "noise" for one in examples):
            raise RaddinoError("this probe diverged")
        return fit(name, features, examples, *rest)

    monkeypatch.setattr(module, "_probe", failing)
    results = judge(corpus, [Halves(), Pixels()], tmp_path, macro={"mean": ["left", "noise"]})
    assert reasons(results, "halves") == {"noise": "this probe diverged", "mean": "no value for noise"}
    key = ["task", "encoder", "metric"]
    before, after = whole.rows().set_index(key)["value"], results.rows().set_index(key)["value"]
    pd.testing.assert_series_equal(after, before.loc[after.index], rtol=1e-4)
    assert len(after) < len(before)
    lone = results.rows().query("task == 'noise'")
    assert set(lone["encoder"]) == {"pixels"}
    assert lone["difference"].isna().all()
    assert reasons(results)[None] == "none on noise, mean: halves, to which they are taken, has no value there"
    assert None not in reasons(whole)


def test_after_an_interruption_only_what_is_missing_is_computed(corpus, tmp_path):
    first, again = Halves(), Halves()
    with pytest.raises(KeyboardInterrupt):
        judge(corpus, [first, Interrupted()], tmp_path)
    assert [path.name for path in (tmp_path / "results").iterdir()] == [".lock"]
    resumed = judge(corpus, [again, Pixels()], tmp_path)
    assert (first.seen, again.seen) == (len(corpus), 0)
    corpus.path = tmp_path / "elsewhere"
    fresh = judge(corpus, [Halves(), Pixels()], tmp_path, out="fresh")
    assert fresh.data["rows"] == resumed.data["rows"]


def test_a_second_run_reads_no_image_and_writes_the_same_bytes(corpus, tmp_path):
    first = judge(corpus, [Halves(), Pixels()], tmp_path)
    bytes_, reads = (first.path / "metrics.json").read_bytes(), corpus.reads
    again = judge(corpus, [Halves(), Pixels()], tmp_path)
    assert corpus.reads == reads
    assert (again.path / "metrics.json").read_bytes() == bytes_


def test_analyses_get_everything_and_a_failing_one_loses_itself_only(corpus, tmp_path, monkeypatch):
    def counts(context):
        assert context.suite.probe.seeds == 2
        assert (context.seed, context.resamples, context.corpus) == (3, 50, corpus)
        return [
            {"encoder": name, "task": "left", "metric": "n", "value": len(context.scores[name]["left"].test[0]),
             "fingerprint": context.fingerprints[name], "rows": len(context.features[name].rows)}
            for name in context.encoders
        ]  # fmt: skip

    def broken(context):
        raise IndexError("/secret")

    monkeypatch.setitem(ANALYSES._things, "counts", counts)
    monkeypatch.setitem(ANALYSES._things, "broken", broken)
    results = judge(corpus, [Halves(), NaNs()], tmp_path, analyses=["broken", "counts"], seed=3)
    expected = {"encoder": "halves", "task": "left", "metric": "n", "value": 72, "fingerprint": "halves-1"}
    assert results.data["analyses"] == {"counts": [expected | {"rows": 240}]}
    lost = [gap for gap in results.data["absent"] if gap.get("analysis")]
    assert [(gap["analysis"], gap["reason"]) for gap in lost] == [("broken", "analysis failed with IndexError")]
    assert Results.open(results.path).data["analyses"] == results.data["analyses"]
    with pytest.raises(RaddinoError, match="Did you mean 'counts'"):
        judge(corpus, [Halves()], tmp_path, analyses=["count"], out="typo")


def test_images_without_a_label_are_left_out_and_counted(corpus, tmp_path):
    results = judge(corpus, [Halves()], tmp_path)
    told = {task["name"]: task for task in results.data["tasks"]}
    missing = int(corpus.manifest["label_left"].isna().sum())
    assert told["left"]["excluded"] == {"no value": missing}
    left_out = told["left"]["by_source"].values()
    assert sum(one["left_out"] for one in left_out) == missing
    assert f"left out: {next(iter(left_out))['left_out']} of" in text_table(results.data)
    assert sum(told["left"]["n"].values()) == len(corpus) - missing
    unlabelled = set(corpus.manifest.loc[corpus.manifest["label_left"].isna(), "id"])
    assert not unlabelled & set(results.predictions.query("task == 'left'")["id"])


def test_text_in_a_label_column_and_a_class_absent_in_test_are_said(corpus, tmp_path):
    corpus.manifest["label_text"] = np.where(corpus.manifest["label_noise"] == 1, "yes", "no")
    test = corpus.manifest["split"] == "test"
    corpus.manifest["label_gone"] = corpus.manifest["label_noise"].where(~test, 0.0)
    tasks = [*TASKS, *({"name": name, "target": f"label_{name}", "kind": "binary"} for name in ("text", "gone"))]
    results = judge(corpus, [Halves()], tmp_path, tasks=tasks, macro={"mean": ["left", "noise", "gone"]})
    assert "holds text ('no', 'yes')" in reasons(results)["text"]
    assert reasons(results)["gone"] == "test split: all 80 values are 0"
    macro = results.rows().query("task == 'mean, 2 of 3 tasks' and metric == 'auroc'").iloc[0]
    parts = results.rows().query("task in ['left', 'noise'] and metric == 'auroc'")["value"]
    assert macro["value"] == pytest.approx(parts.mean())


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ({"id": lambda table: table["id"].replace("image7", "image8")}, "1 id stands for several images: image8"),
        ({"sha256": lambda table: np.where(table["id"].isin(["image0", "image6"]), "same", table["id"])}, "two splits"),
        ({"patient": lambda table: table["patient"].replace("p3", "p0")}, "p0"),
    ],
)
def test_manifests_that_would_flatter_are_refused(corpus, tmp_path, spoil, words):
    corpus.manifest = corpus.manifest.assign(**spoil)
    with pytest.raises(RaddinoError, match=words) as error:
        judge(corpus, [Halves()], tmp_path)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "results").exists()


def test_copies_within_a_split_are_no_leak(corpus, tmp_path):
    corpus.manifest["sha256"] = corpus.manifest["split"]
    corpus.manifest.loc[::2, "sha256"] = None
    assert judge(corpus, [Halves()], tmp_path).data["rows"]


def test_contamination_is_told_by_source(corpus, tmp_path):
    corpus.manifest.loc[::2, "source"] = "rsna-pneumonia"
    encoder = Halves()
    encoder.provenance = Provenance(sources=["nih"], supervision="self-supervised")
    told = judge(corpus, [encoder, Pixels()], tmp_path).data["encoders"]
    assert told[0]["contamination"] == {"rsna-pneumonia": "image seen", "toy": "clean"}
    assert [one["seen"] for one in told] == ["image seen", "clean"]


def test_a_declared_held_out_source_is_shown_as_declared(corpus, tmp_path):
    corpus.manifest.loc[::2, "source"] = "rsna-pneumonia"
    encoder = Halves()
    encoder.provenance = Provenance(sources=["nih"], supervision="self-supervised")
    told = judge(corpus, [encoder, Pixels()], tmp_path, held_out={"halves": ["rsna-pneumonia"]}).data["encoders"]
    assert told[0]["contamination"] == {"rsna-pneumonia": "declared held out", "toy": "clean"}
    assert [one["seen"] for one in told] == ["declared held out", "clean"]
    with pytest.raises(ConfigError, match="no encoder is called 'halve'"):
        judge(corpus, [encoder], tmp_path, held_out={"halve": ["toy"]})


def test_one_seed_has_no_spread(corpus, tmp_path):
    results = judge(corpus, [Halves()], tmp_path)
    by_seed = results.rows()["seed_sd"]
    assert by_seed.notna().all()
    suite = tmp_path / "one.yaml"
    suite.write_text(yaml.safe_dump({"tasks": TASKS, "probe": PROBE | {"seeds": 1}}), encoding="utf-8")
    alone = evaluate(corpus, [Halves()], suite=suite, out=tmp_path / "one", resamples=10)
    assert all(
        row["seed_sd"] is None for row in json.loads((alone.path / "metrics.json").read_text(encoding="utf-8"))["rows"]
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no file at /home/me/a b", "no file at …/a b"),
        ("put it in /data/x/ (gated)", "put it in …/x (gated)"),
        ("~/weights/m.pt is damaged", "…/m.pt is damaged"),
        (r"C:\Users\me\m.pt is damaged", "…/m.pt is damaged"),
        ("see https://huggingface.co/microsoft/rad-dino and ./run/encoder", None),
        ("3 of 4 and/or 1/2", None),
        ("no weights at /mnt/Klinik, St. Anna/Dr (Meier)/w.pth: give one", "no weights at …/w.pth: give one"),
    ],
)
def test_public_reasons_hold_no_absolute_path(text, shown):
    assert public(text) == (shown or text)
