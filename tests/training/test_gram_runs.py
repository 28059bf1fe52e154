"""Runs with anchored patches and KDE: resumed to the bit, turned on and off along the way."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from raddino.config import validate
from raddino.errors import ConfigError, RaddinoError
from raddino.ssl import SelfDistillation
from raddino.training.checkpoint import latest_step
from raddino.training.metrics_log import read_metrics
from raddino.training.pretrain import PretrainConfig, pretrain
from training.test_pretrain import CLOCK

GRAM = {"weight": 2.0, "start": 2, "every": 3, "size": 64}


def run(corpus, out: Path, values: dict, **options) -> list[dict]:
    """The steps' figures of a run to its end."""
    pretrain(corpus, out, validate(PretrainConfig, values), device="cpu", workers=0, **options)
    lines = [line for line in read_metrics(out / "metrics.jsonl") if "monitor" not in line]
    return [{key: value for key, value in line.items() if key not in CLOCK} for line in lines]


def weights(out: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(out / f"checkpoints/step_{step}/task.safetensors")


def anchored(tiny: dict, **gram) -> dict:
    return tiny | {"ssl": tiny["ssl"] | {"koleo_weight": 0.0, "kde_weight": 0.05, "gram": GRAM | gram}}


@pytest.fixture(scope="module")
def whole(corpus, tiny, tmp_path_factory):
    """An uninterrupted run that renews its Gram teacher before steps 2 and 5."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return out, run(corpus, out, anchored(tiny))


def test_terms_are_logged_from_when_they_are_computed(whole):
    _, lines = whole
    assert [line["step"] for line in lines if "gram" in line] == [2, 3, 4, 5, 6, 7]
    assert all(line["gram"] > 0 and line["kde"] < 0 and line["koleo"] == 0 for line in lines[2:])


@pytest.mark.parametrize("dies_at", [4, 5, 6])
def test_an_interrupted_run_continues_to_the_same_bits(whole, corpus, tiny, tmp_path, monkeypatch, dies_at):
    """Checkpoints after 3 and 6 steps: between renewals, and behind the second."""
    real, calls = SelfDistillation.update_teacher, []

    def dies(self, momentum):
        calls.append(1)
        if len(calls) == dies_at + 1:
            raise MemoryError
        real(self, momentum)

    monkeypatch.setattr(SelfDistillation, "update_teacher", dies)
    with pytest.raises(MemoryError):
        run(corpus, tmp_path / "run", anchored(tiny))
    monkeypatch.undo()
    assert latest_step(tmp_path / "run/checkpoints") == 3 * (dies_at // 3)
    out, lines = whole
    assert run(corpus, tmp_path / "run", anchored(tiny)) == lines
    first, second = weights(out, 8), weights(tmp_path / "run", 8)
    assert first.keys() == second.keys()
    assert any(name.startswith("gram.teacher.") for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_before_its_start_a_run_is_the_plain_one_to_the_bit(corpus, tiny, tmp_path):
    plain = run(corpus, tmp_path / "plain", tiny)
    waiting = run(corpus, tmp_path / "waiting", tiny | {"ssl": tiny["ssl"] | {"gram": GRAM | {"start": 100}}})
    assert plain == waiting
    first, second = weights(tmp_path / "plain", 8), weights(tmp_path / "waiting", 8)
    assert not any("gram" in name for name in first)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_turns_anchoring_on_with_its_teacher_of_then_and_off_again(corpus, tiny, tmp_path):
    out, schedule = tmp_path / "run", {"schedule": {"length": 8}}
    run(corpus, out, tiny | schedule | {"steps": 3})
    before = weights(out, 3)
    on = anchored(tiny, start=0, every=None, size=None) | schedule
    with pytest.raises(ConfigError, match=r"ssl\.gram\.weight: 0\.0 -> 2\.0"):
        run(corpus, out, on | {"steps": 5})
    lines = run(corpus, out, on | {"steps": 5}, fork=True)
    assert [line["step"] for line in lines if "gram" in line] == [3, 4]
    after = weights(out, 5)
    backbone = [name for name in before if name.startswith("teacher.backbone.")]
    for name in backbone:
        assert torch.equal(after[name.replace("teacher.backbone.", "gram.teacher.")], before[name])
    assert any(not torch.equal(after[name], before[name]) for name in backbone)
    lines = run(corpus, out, tiny | schedule, fork=True)
    assert "gram" not in lines[-1]
    assert weights(out, 8).keys() == before.keys()


def test_a_term_that_is_not_finite_is_named(corpus, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("raddino.ssl.task.kde", lambda features, _: features.sum() * float("nan"))
    with pytest.raises(RaddinoError, match=r"step 0: kde, loss, grad_norm_\S+ .*is not a finite number"):
        run(corpus, tmp_path / "run", anchored(tiny))


def test_another_network_is_still_refused(corpus, tiny, tmp_path):
    run(corpus, tmp_path / "run", tiny | {"steps": 1})
    with pytest.raises(RaddinoError, match="it holds another network"):
        run(corpus, tmp_path / "run", tiny | {"steps": 2, "vit": tiny["vit"] | {"depth": 3}}, fork=True)
