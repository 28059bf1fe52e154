from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from findings_corpus import TEXTS
from raddino.errors import RaddinoError
from raddino.tasks.findings.language import identity, load_language
from raddino.tasks.findings.settings import FindingsConfig
from raddino.tasks.findings.tiny_language import tiny_decoder, tiny_tokenizer


def load(name: str):
    return load_language(FindingsConfig(language_model=name), TEXTS, 0, torch.float32)


def test_tiny_knows_the_image_token() -> None:
    language = load("tiny")
    ids = language.tokenizer("a<image><image>b")["input_ids"]
    assert ids.count(language.image_token) == 2
    assert language.model.get_input_embeddings().num_embeddings == len(language.tokenizer)
    assert language.tokenizer.pad_token_id != language.tokenizer.eos_token_id


def test_a_folder_grows_by_the_tokens_it_lacks(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(TEXTS, 300)
    tokenizer.pad_token = None
    model = tiny_decoder(FindingsConfig().tiny, tokenizer, 3)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    language = load(str(tmp_path))
    kept = language.model.get_input_embeddings().weight[: model.config.vocab_size]
    assert torch.equal(kept, model.get_input_embeddings().weight)
    assert language.model.get_input_embeddings().num_embeddings == len(language.tokenizer) > model.config.vocab_size
    assert "USER" in language.tokenizer.chat_template


def test_what_cannot_be_had_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("no-such-org/no-such-model", "lmsys/vicuna-7b-v1.5-not-here"):
        with pytest.raises(RaddinoError, match=rf"{name}.*no folder here.*cannot be reached.*smollm2 or tiny"):
            load(name)
    with pytest.raises(RaddinoError, match="no folder here"):
        load("not/a/hub/id")
    with pytest.raises(RaddinoError, match="cannot be loaded") as caught:
        load(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raddino.tasks.findings.language.find_spec", lambda name: None)
    with pytest.raises(RaddinoError, match=r"raddino\[llm-small\]"):
        load("smollm2")


def _folder(place: Path, seed: int = 3) -> Path:
    tokenizer = tiny_tokenizer(TEXTS, 300)
    tiny_decoder(FindingsConfig().tiny, tokenizer, seed).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return place


def test_missing_weights_are_refused_and_never_random(tmp_path: Path) -> None:
    file = _folder(tmp_path) / "model.safetensors"
    held = load_file(file)
    del held["model.norm.weight"]
    save_file(held, file, metadata={"format": "pt"})
    with pytest.raises(RaddinoError, match=r"1 weights are missing.*model\.norm\.weight"):
        load(str(tmp_path))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    file = _folder(tmp_path) / "model.safetensors"
    held = load_file(file)
    held["model.norm.weight"][0] = float("inf")
    save_file(held, file, metadata={"format": "pt"})
    with pytest.raises(RaddinoError, match=r"model\.norm\.weight holds numbers that are not finite"):
        load(str(tmp_path))


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("sprung"),)


def test_a_pickle_in_a_folder_is_refused_by_the_safe_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (_folder(tmp_path) / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Trap()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(RaddinoError, match="refused by the safe loader"):
        load(str(tmp_path))
    assert not (tmp_path / "sprung").exists()


def test_folders_of_one_name_and_a_folder_below_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (_folder(tmp_path / place / "lm", seed) for seed, place in enumerate(("a", "b")))
    assert identity(str(one)) != identity(str(other))
    assert identity("some/hub-id") == identity("tiny") == ""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert identity("~/a/lm") == identity(str(one))
    assert FindingsConfig(language_model="~/a/lm").language_name == "lm"
    assert load("~/a/lm").model.config.num_hidden_layers == FindingsConfig().tiny.layers


def test_bombs_and_other_places_in_a_folder_are_refused(tmp_path: Path) -> None:
    folder, away = _folder(tmp_path / "one"), tmp_path / "away.bin"
    (folder / "model.safetensors").unlink()
    bomb = b"\x80\x02})q\x00" + 60 * b"h\x00h\x00\x86q\x00" + b"K\x01s."
    (folder / "pytorch_model.bin").write_bytes(bomb)
    with pytest.raises(RaddinoError, match="refused by the safe loader"):
        load(str(folder))
    (folder / "pytorch_model.bin").rename(away)
    (folder / "pytorch_model.bin.index.json").write_text(
        '{"metadata": {}, "weight_map": {"a": "../away.bin"}}', encoding="utf-8"
    )
    with pytest.raises(RaddinoError, match="names files elsewhere"):
        load(str(folder))
    (folder / "adapter_config.json").write_text(
        '{"peft_type": "LORA", "base_model_name_or_path": "elsewhere"}', encoding="utf-8"
    )
    with pytest.raises(RaddinoError, match="holds an adapter"):
        load(str(folder))
