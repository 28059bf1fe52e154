"""Nothing that is written says where anything lies on this machine, though everything was named by whole paths."""

import shutil

import pytest
import yaml

from audit.journey import SETTINGS, SMALL, said
from raddino.audit.audit import audit
from raddino.tasks.findings.prompts import PROMPTS

ABOVE = "Klinik Sankt Zqanna (Haus 3)"
PEOPLE = "zqmeier"
SUITE = {
    "probe": "logistic",
    "tasks": [
        {"name": "bmi", "target": "bmi", "kind": "regression"},
        {"name": "lungs", "target": "mask_lungs", "kind": "segmentation",
         "options": {"classes": {"lungs": 255}, "mirror": [], "steps": 2}},
        {"name": "text", "target": "report", "kind": "findings", "options": {
            "language_model": "tiny", "prompt": "{home}/own.yaml", "text_tokens": 8,
            "stages": [{"train": "both", "steps": 2, "lr": 1e-3}],
            "tiny": {"layers": 1, "width": 16, "heads": 1, "vocabulary": 300}}},
    ],
}  # fmt: skip
FACTS = {"probe": "logistic", "tasks": [{"name": "bmi", "target": "bmi", "kind": "regression"}]}
STUDY = {
    "question": "Do initial weights help?", "preset": "{home}/preset.yaml", "budget": {"steps": 2},
    "arms": {
        "start": {"vary": {"init": ["{home}/encoder", None]}},
        "known": {"encoders": ["{home}/encoder", "hog"]},
        "broken": {"encoders": ["{home}/broken"]},
    },
    "tasks": {"facts": {"targets": ["bmi"], "probe": {"kind": "logistic"}},
              "there": {"suite": "{home}/facts.yaml", "test_on": ["{home}/site"]}}, "resamples": 20,
}  # fmt: skip


def settled(values, home):
    """``values`` with the folder in the place of ``{home}``."""
    return yaml.safe_load(yaml.safe_dump(values, sort_keys=False).replace("{home}", str(home)))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Folder of a person with what is read, and ``out`` with what was written; all of it named by whole paths."""
    place = tmp_path_factory.mktemp("places")
    home, out, log = place / ABOVE / PEOPLE, place / "out", place / "log.txt"
    home.mkdir(parents=True)
    overrides = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    shutil.copy(PROMPTS / "findings.yaml", home / "own.yaml")
    for name, values in (("suite", SUITE), ("facts", FACTS), ("study", STUDY | {"set": _nested(SETTINGS)})):
        text = yaml.safe_dump(settled(values, home), sort_keys=False)
        (home / f"{name}.yaml").write_text(text, encoding="utf-8")
    train = ["pretrain", f"{out}/corpus", "--preset", "cpu-smoke", *overrides, "--device", "cpu", "--workers", "0"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RADDINO_KEY", "the key of these tests")
        _run(log, ["sample", "--out", f"{home}/drawn", "-n", "90", "--size", "48", "--workers", "1"])
        _run(log, ["prepare", f"{home}/drawn", "--out", f"{out}/corpus", "--shorter-side", "48", "--workers", "1",
                   "--column", "split=", "--splits", "0.5,0.15,0.35"])  # fmt: skip
        _run(log, ["sample", "--out", f"{home}/there", "-n", "40", "--size", "48", "--seed", "3", "--workers", "1"])
        shutil.make_archive(f"{home}/there", "zip", home / "there")
        for place, made in (("there/manifest.csv", home / "site"), ("there.zip", out / "unpacked")):
            _run(log, ["prepare", f"{home}/{place}", "--out", f"{made}", "--shorter-side", "48", "--workers", "1",
                       "--source", "there", "--duplicates", "report"])  # fmt: skip
        shutil.copytree(home / "site", out / "site")
        _run(log, [*train, "--out", f"{home}/run"])
        shutil.copy(home / "run" / "config.yaml", home / "preset.yaml")
        shutil.copytree(home / "run" / "encoder", home / "encoder")
        shutil.copytree(home / "run" / "encoder", home / "broken")
        (home / "broken" / "model.safetensors").write_bytes(b"broken")
        encoders = f"{home}/encoder,broken={home}/broken"
        judged = out / "results"
        for words in (
            [*train, "--init", f"{home}/encoder", "--out", f"{out}/run"],
            [*train, "--init", f"{home}/encoder", "--out", f"{out}/run"],
            ["evaluate", f"{out}/corpus", "--encoders", encoders, "--suite", f"{home}/suite.yaml", "--run",
             f"{out}/run", "--out", f"{judged}", *SMALL],
            ["report", f"{judged}", "--run", f"{out}/run", "--corpus", f"{out}/corpus"],
            ["evaluate", f"{out}/corpus", "--encoders", f"{home}/encoder", "--suite", f"{home}/facts.yaml",
             "--fine-tune", "last-1", "--test-on", f"{home}/site", "--run", f"{home}/run", "--out",
             f"{out}/elsewhere", *SMALL],
            ["evaluate", f"{out}/corpus", "--encoders", f"{home}/encoder", "--suite", f"{home}/facts.yaml",
             "--cross-validate", "3x1", "--out", f"{out}/folds", *SMALL],
            ["compare", f"{out}/elsewhere", f"{out}/elsewhere", "--out", f"{out}/pair", "--resamples", "20"],
            ["predict", f"{home}/there", "--probe", f"{judged}/probes/bmi/trained", "--encoder", f"{home}/encoder",
             "--out", f"{out}/predictions.csv", "--device", "cpu"],
            ["segment", f"{home}/there", "--model", f"{judged}/models/lungs/trained", "--encoder",
             f"{home}/encoder", "--out", f"{out}/masks", "--device", "cpu"],
            ["pretrain", f"{out}/corpus", f"{home}/site", "--preset", f"{home}/preset.yaml", "--init",
             f"{home}/run/encoder", "--set", "ssl.guides.bmi=keep", "--device", "cpu", "--workers",
             "0", "--out", f"{out}/guided"],
            ["views", f"{out}/corpus", "--preset", f"{home}/preset.yaml", "--images", "2", "--out", f"{out}/views.png"],
            ["leaderboard", f"{judged}", "--out", f"{out}/board"],
            ["embed", f"{out}/corpus", "--encoder", f"{home}/encoder", "--device", "cpu", "--out", f"{out}/f.parquet"],
            *(["export", f"{home}/encoder", "--format", name, "--out", f"{out}/export-{name}"]
              for name in ("huggingface", "official")),
            ["inspect", f"{out}/corpus", f"{home}/site", "--out", f"{out}/seen", "--check", "exposure", "--check",
             "duplicates", "--workers", "1"],
            ["study", f"{home}/study.yaml", "--corpus", f"{out}/corpus", "--out", f"{out}/study", "--device", "cpu",
             "--workers", "0"],
        ):  # fmt: skip
            _run(log, words)
        yield home, out, log


def _nested(flat):
    values = {}
    for key, text in flat.items():
        *above, last = key.split(".")
        inner = values
        for one in above:
            inner = inner.setdefault(one, {})
        inner[last] = yaml.safe_load(text) if isinstance(text, str) and text[0] == "{" else text
    return values


def _run(log, words):
    status = said(words, log)
    assert status == 0, (words, log.read_text(encoding="utf-8")[-3000:])


def test_a_config_without_the_place_asks_for_it(places):
    home, out, log = places
    again = ["pretrain", f"{out}/corpus", "--preset", f"{out}/run/config.yaml", "--device", "cpu", "--workers", "0"]
    assert said([*again, "--out", f"{home}/asked"], log) == 2
    assert "give --init" in log.read_text(encoding="utf-8").splitlines()[-1]
    assert said([*again, "--init", f"{home}/encoder", "--out", f"{out}/run"], log) == 0


def test_no_artefact_says_where_anything_lies(places, tmp_path):
    home, out, _ = places
    (tmp_path / "strings.txt").write_text("\n".join([ABOVE, "Zqanna", PEOPLE, str(out), str(home)]), encoding="utf-8")
    done = audit(out, strings=tmp_path / "strings.txt", strict=True)
    assert done.files > 80
    assert done.clean, [(one.kind, one.place) for one in done.found] + done.unread
