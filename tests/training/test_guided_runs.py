"""Guided runs: resumed to the bit, turned on and off along the way, shipped without heads; watching leaves no trace."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from raddino.config import validate
from raddino.corpus.dataset import Corpus
from raddino.encoders.load import load_encoder
from raddino.errors import ConfigError
from raddino.ssl import SelfDistillation
from raddino.training.checkpoint import latest_step
from raddino.training.metrics_log import read_metrics
from raddino.training.pretrain import PretrainConfig, pretrain
from training.test_pretrain import CLOCK

GUIDES = {"sex": "remove", "age": "keep", "view": "keep"}


def run(corpus, out: Path, values: dict, **options) -> list[dict]:
    """The steps' figures of a run to its end."""
    pretrain(corpus, out, validate(PretrainConfig, values), device="cpu", **{"workers": 0} | options)
    lines = [line for line in read_metrics(out / "metrics.jsonl") if "monitor" not in line]
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in lines]


def weights(out: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(out / f"checkpoints/step_{step}/task.safetensors")


def guided(tiny: dict, changed: dict | None = None, **options) -> dict:
    ssl = {"guides": GUIDES, "guide_ramp_steps": 4, "guide_hidden": 16} | options
    return tiny | {"ssl": tiny["ssl"] | ssl} | (changed or {})


@pytest.fixture(scope="module")
def whole(corpus, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, run(corpus, out, guided(tiny))


def test_figures_of_each_guide_are_logged(whole):
    out, lines = whole
    assert len(lines) == 8
    for line in lines:
        assert all(line[f"guide_loss_{name}"] > 0 for name in GUIDES)
        assert all(0 <= line[f"guide_accuracy_{name}"] <= 1 for name in ("sex", "view"))
        assert line["grad_norm_guides"] > 0
        assert not {name for name in line if "guide_known" in name or "guide_correct" in name}
        assert "guide_accuracy_age" not in line
    told = json.loads((out / "environment.json").read_text(encoding="utf-8"))["guides"]
    assert told["sex"] == {"classes": ["F", "M"], "mean": 0.0, "sd": 1.0}
    assert told["age"]["classes"] == []


@pytest.mark.parametrize("dies_at", [4, 6])
def test_an_interrupted_run_continues_to_the_same_bits(whole, corpus, tiny, tmp_path, monkeypatch, dies_at):
    real, calls = SelfDistillation.update_teacher, []

    def dies(self, momentum):
        calls.append(1)
        if len(calls) == dies_at + 1:
            raise MemoryError
        real(self, momentum)

    monkeypatch.setattr(SelfDistillation, "update_teacher", dies)
    with pytest.raises(MemoryError):
        run(corpus, tmp_path / "run", guided(tiny))
    monkeypatch.undo()
    assert latest_step(tmp_path / "run/checkpoints") == 3 * (dies_at // 3)
    out, lines = whole
    assert run(corpus, tmp_path / "run", guided(tiny), workers=2) == lines
    first, second = weights(out, 8), weights(tmp_path / "run", 8)
    assert first.keys() == second.keys()
    assert sum(name.startswith("student.guides.") for name in first) == 12
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("changed", [{}, {"batch_size": 16, "accumulate": 2}, {"precision": "bf16"}])
def test_guides_that_watch_alone_leave_the_run_as_it_is_to_the_bit(corpus, tiny, tmp_path, changed):
    plain = run(corpus, tmp_path / "plain", tiny | changed)
    watched = run(corpus, tmp_path / "watched", guided(tiny, changed, guide_weight=0.0))
    own = {name for name in watched[0] if "guide" in name}
    assert len(own) == 6
    assert [{k: v for k, v in line.items() if k not in own} for line in watched] == plain
    first, second = weights(tmp_path / "plain", 8), weights(tmp_path / "watched", 8)
    assert all(torch.equal(second[name], first[name]) for name in first)
    assert {name.split(".")[1] for name in second.keys() - first.keys()} == {"guides"}
    assert (tmp_path / "plain/encoder/model.safetensors").read_bytes() == (
        tmp_path / "watched/encoder/model.safetensors"
    ).read_bytes()


def test_guides_change_what_is_learnt_from_the_second_step_on(whole, corpus, tiny, tmp_path):
    plain = run(corpus, tmp_path / "plain", tiny)
    _, lines = whole
    assert [lines[0][name] == plain[0][name] for name in plain[0]] == [True] * len(plain[0])
    assert lines[3]["dino_global"] != plain[3]["dino_global"]


def test_activation_checkpointing_changes_nothing(whole, corpus, tiny, tmp_path):
    _, lines = whole
    assert run(corpus, tmp_path / "run", guided(tiny, {"activation_checkpointing": True})) == lines


def test_micro_batches_add_up_to_the_whole_batch(corpus, tiny, tmp_path):
    """Weights are of the corpus, not of the batch, so that accumulation changes no loss of a guide."""
    values = guided(tiny, {"steps": 1, "batch_size": 16, "vit": tiny["vit"] | {"drop_path": 0.0}})
    values["ssl"] |= {"ibot_weight": 0.0}
    (one,) = run(corpus, tmp_path / "one", values)
    (four,) = run(corpus, tmp_path / "four", values | {"accumulate": 4})
    names = [name for name in one if name.startswith("guide_")]
    assert len(names) == 5
    assert {name: four[name] for name in names} == pytest.approx({name: one[name] for name in names}, rel=1e-5)


def test_the_encoder_has_no_heads_and_its_record_says_what_guided_it(whole):
    out, _ = whole
    assert not any("guide" in name or "heads" in name for name in load_file(out / "encoder/model.safetensors"))
    about = load_encoder(str(out / "encoder"), "cpu").provenance
    assert about.note.endswith("Guided by the manifest's columns age (keep), sex (remove), view (keep).")
    assert about.supervision == "labels"
    assert load_encoder(str(out / "initial"), "cpu").provenance.supervision == "none"


def test_what_is_only_removed_or_watched_is_no_supervision(corpus, tiny, tmp_path):
    for name, options, note in (
        ("removed", {"guides": {"sex": "remove"}}, "columns sex (remove)."),
        ("watched", {"guide_weight": 0.0}, "images."),
    ):
        run(corpus, tmp_path / name, guided(tiny, {"steps": 1}, **options))
        about = load_encoder(str(tmp_path / name / "encoder"), "cpu").provenance
        assert about.supervision == "self-supervised"
        assert about.note.endswith(note)


def test_a_run_turns_guides_on_and_off_again_and_classes_keep_their_numbers(corpus, tiny, tmp_path):
    out, schedule = tmp_path / "run", {"schedule": {"length": 8}}
    run(corpus, out, tiny | schedule | {"steps": 3})
    on = guided(tiny, schedule | {"steps": 5})
    with pytest.raises(ConfigError, match=r"ssl\.guides\.age: None -> keep"):
        run(corpus, out, on)
    lines = run(corpus, out, on, fork=True)
    assert [line["step"] for line in lines if "guide_loss_sex" in line] == [3, 4]
    before = json.loads((out / "environment.json").read_text(encoding="utf-8"))["guides"]
    heads = {name: value for name, value in weights(out, 5).items() if ".guides." in name}
    fewer = Corpus.open(corpus.path)
    lines = run(fewer, out, on | {"steps": 6, "where": "age > 40"}, fork=True)
    assert json.loads((out / "environment.json").read_text(encoding="utf-8"))["guides"] == before
    after = weights(out, 6)
    assert all((after[name] - value).abs().max() < 0.01 for name, value in heads.items())
    lines = run(corpus, out, tiny | schedule, fork=True)
    assert "guide_loss_sex" not in lines[-1]
    assert "guides" not in json.loads((out / "environment.json").read_text(encoding="utf-8"))
    assert not any(".guides." in name for name in weights(out, 8))


def test_a_column_that_cannot_guide_is_refused_before_anything_is_written(corpus, tiny, tmp_path):
    with pytest.raises(ConfigError, match="column manufacturer is absent from all training images"):
        run(corpus, tmp_path / "run", guided(tiny, guides={"manufacturer": "remove"}))
    assert not (tmp_path / "run").exists()
