import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import GPT2Config, GPT2LMHeadModel

from findings_corpus import TEXTS, report_corpus, small_encoder, train_quickly
from raddino.encoders.base import Features
from raddino.errors import RaddinoError
from raddino.files import write_json
from raddino.tasks.findings.data import Writer
from raddino.tasks.findings.generate import write
from raddino.tasks.findings.language import Language, load_language
from raddino.tasks.findings.model import assemble, image_tokens, is_standard, load_model, read_record, save_model
from raddino.tasks.findings.prompts import load_template
from raddino.tasks.findings.settings import FindingsConfig, TinyLanguage
from raddino.tasks.findings.tower import BeforeNorm, reader, vision_tower

CPU = torch.device("cpu")
SHAPE = TinyLanguage(layers=2, width=64, heads=2, vocabulary=400)
ALONE = """
import sys, json
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "raddino":
            raise ImportError("raddino is blocked")
sys.meta_path.insert(0, Refuse())
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
folder, image = sys.argv[1:]
model, processor = LlavaForConditionalGeneration.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
ask = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": sys.stdin.read()}]}]
prompt = processor.apply_chat_template(ask, add_generation_prompt=True)
inputs = processor(images=Image.open(image), text=prompt, return_tensors="pt")
written = model.generate(**inputs)[:, inputs["input_ids"].shape[1]:]
print(json.dumps([prompt, processor.batch_decode(written, skip_special_tokens=True)[0]]))
"""


def made(encoder, **values):
    config = FindingsConfig(language_model="tiny", tiny=SHAPE, text_tokens=12, **values)
    language = load_language(config, TEXTS, 0, torch.float32)
    model = assemble(reader(encoder, config.final_norm), language, config)
    for weight in model.model.multi_modal_projector.parameters():
        weight.data *= 3  # so that the image decides what is said
    return model, language, config


def prompts(tmp_path: Path, language: Language, config: FindingsConfig, tokens: int):
    corpus = report_corpus(tmp_path)
    return corpus, [
        Writer(corpus, language.tokenizer, config, load_template("findings"), tokens).example(row) for row in range(4)
    ]


def pixels(encoder, corpus) -> torch.Tensor:
    return encoder.preprocess([corpus.read(row) for row in range(4)])


def test_what_is_read_is_dinov2s_last_hidden_state_before_and_after_the_norm() -> None:
    for registers in (0, 2):
        encoder = small_encoder(registers)
        batch = torch.rand(2, 1, 32, 32) - 0.5
        with torch.inference_mode():
            theirs = vision_tower(encoder)(batch.expand(-1, 3, -1, -1), output_hidden_states=True)
        before = BeforeNorm(encoder).encode(batch)
        torch.testing.assert_close(
            before.patches.flatten(1, 2), theirs.hidden_states[-1][:, 1 + registers :], atol=1e-5, rtol=1e-5
        )
        torch.testing.assert_close(before.cls, theirs.pooler_output, atol=1e-5, rtol=1e-5)
        after = encoder.encode(batch).patches.flatten(1, 2)
        torch.testing.assert_close(after, theirs.last_hidden_state[:, 1 + registers :], atol=1e-5, rtol=1e-5)


def test_features_and_pixels_give_the_same_logits_and_texts_in_plain_llava(tmp_path: Path) -> None:
    encoder = small_encoder()
    model, language, config = made(encoder)
    corpus, examples = prompts(tmp_path, language, config, image_tokens(encoder, config))
    ids = torch.tensor([one.prompt for one in examples[1:2] + examples[3:]])
    at = [1, 3]
    features = BeforeNorm(encoder).encode(pixels(encoder, corpus)).patches.flatten(1, 2)
    with torch.inference_mode():
        ours = model(input_ids=ids, pixel_values=features[at]).logits
    folder = save_model(tmp_path / "model", model, encoder, language, config, {})
    plain, tokenizer = load_model(folder, CPU, torch.float32)
    assert type(plain).__name__ == "LlavaForConditionalGeneration"
    seen = pixels(encoder, corpus).expand(-1, 3, -1, -1)
    with torch.inference_mode():
        theirs = plain(input_ids=ids, pixel_values=seen[at]).logits
        said = plain.generate(input_ids=ids, pixel_values=seen[at])[:, ids.shape[1] :]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert (ours[0, -1] - ours[1, -1]).abs().max() > 1e-2
    texts = [text.strip() for text in tokenizer.batch_decode(said, skip_special_tokens=True)]
    assert write(plain, tokenizer, [examples[i] for i in at], features[at]) == texts


def test_the_standard_folder_serves_without_raddino(tmp_path: Path) -> None:
    encoder = small_encoder()
    model, language, config = made(encoder)
    corpus, examples = prompts(tmp_path, language, config, image_tokens(encoder, config))
    folder = save_model(tmp_path / "model", model, encoder, language, config, {"chosen": {}})
    assert read_record(folder)["needs_raddino"] is False
    Image.fromarray(corpus.read(1)).save(tmp_path / "image.png")
    words = "Describe the findings of this chest X-ray."
    command = [sys.executable, "-c", ALONE, str(folder), str(tmp_path / "image.png")]
    answer = subprocess.run(command, input=words, capture_output=True, encoding="utf-8", check=True, timeout=300)
    prompt, text = json.loads(answer.stdout.strip().splitlines()[-1])
    expanded = prompt.replace("<image>", "<image>" * 16)
    assert language.tokenizer(expanded)["input_ids"] == examples[1].prompt
    features = BeforeNorm(encoder).encode(encoder.preprocess([corpus.read(1)])).patches.flatten(1, 2)
    ours = write(*load_model(folder, CPU, torch.float32), [examples[1]], features)
    assert [text.strip()] == ours


@pytest.mark.parametrize(
    ("registers", "values"),
    [
        (0, {"projector_layers": 4}),
        (0, {"token_pool": 3}),
        (0, {"final_norm": True}),
        (2, {}),
        (2, {"projector_layers": 4, "token_pool": 2}),
    ],
)
def test_other_forms_save_and_load_themselves(tmp_path: Path, registers: int, values: dict) -> None:
    encoder = small_encoder(registers)
    model, language, config = made(encoder, **values)
    tokens = image_tokens(encoder, config)
    assert tokens == {1: 16, 2: 4, 3: 4}[config.token_pool]
    corpus, examples = prompts(tmp_path, language, config, tokens)
    ids = torch.tensor([examples[0].prompt])
    features = reader(encoder, config.final_norm).encode(pixels(encoder, corpus)).patches.flatten(1, 2)[:1]
    folder = save_model(tmp_path / "model", model, encoder, language, config, {})
    assert read_record(folder)["needs_raddino"]
    assert "Needs raddino" in (folder / "README.md").read_text(encoding="utf-8")
    again, _ = load_model(folder, CPU, torch.float32)
    seen = pixels(encoder, corpus).expand(-1, 3, -1, -1)[:1]
    with torch.inference_mode():
        want = model(input_ids=ids, pixel_values=features).logits
        for given in (features, seen):
            torch.testing.assert_close(again(input_ids=ids, pixel_values=given).logits, want, atol=1e-5, rtol=1e-5)


def test_pooling_takes_means_of_what_is_there(tmp_path: Path) -> None:
    model, _, _ = made(small_encoder(), token_pool=3)
    projector = model.model.multi_modal_projector
    grid = torch.randn(1, 4, 4, 32)
    pooled = torch.stack([grid[0, :3, :3].mean((0, 1)), grid[0, :3, 3].mean(0), grid[0, 3, :3].mean(0), grid[0, 3, 3]])
    torch.testing.assert_close(projector(grid.flatten(1, 2))[0], projector.layers(pooled))


class Foreign:
    """An encoder that is no network of Transformers'."""

    name, dim, grid, fingerprint, provenance = "foreign", 5, (2, 3), "f", small_encoder().provenance

    def preprocess(self, images):
        return torch.stack([torch.from_numpy(image[:2, :3].astype(np.float32)) for image in images])[:, None]

    def encode(self, batch):
        patches = batch[:, 0, :, :, None].expand(-1, -1, -1, 5) / 255
        return Features(patches.mean((1, 2)), patches)


def test_an_encoder_that_llava_cannot_carry_is_served_from_features(tmp_path: Path) -> None:
    encoder = Foreign()
    model, language, config = made(encoder)
    assert not is_standard(encoder, config)
    corpus, examples = prompts(tmp_path, language, config, 6)
    folder = save_model(tmp_path / "model", model, encoder, language, config, {})
    again, tokenizer = load_model(folder, CPU, torch.float32)
    features = encoder.encode(encoder.preprocess([corpus.read(0)])).patches.flatten(1, 2)
    assert write(again, tokenizer, examples[:1], features) == write(model, language.tokenizer, examples[:1], features)
    with pytest.raises(RaddinoError, match="carries no vision tower"):
        again(input_ids=torch.tensor([examples[0].prompt]), pixel_values=torch.zeros(1, 3, 8, 8))


def test_an_encoder_without_patches_and_a_folder_without_a_model_are_errors(tmp_path: Path) -> None:
    encoder = Foreign()
    encoder.grid = None
    with pytest.raises(RaddinoError, match="no patch features"):
        reader(encoder, False)
    with pytest.raises(RaddinoError, match="no findings writer"):
        load_model(tmp_path, CPU, torch.float32)
    (tmp_path / "findings.json").write_text("{", encoding="utf-8")
    with pytest.raises(RaddinoError, match="damaged"):
        load_model(tmp_path, CPU, torch.float32)


def test_a_language_model_that_llava_would_change_is_refused() -> None:
    from transformers import GraniteConfig, GraniteForCausalLM

    config = FindingsConfig(language_model="tiny", tiny=SHAPE)
    tokenizer = load_language(config, TEXTS, 0, torch.float32).tokenizer
    scaled = GraniteConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, logits_scaling=8.0, pad_token_id=0, bos_token_id=None, eos_token_id=1,
    )  # fmt: skip
    with pytest.raises(RaddinoError, match="logits"):
        assemble(small_encoder(), Language("granite", GraniteForCausalLM(scaled), tokenizer), config)


def test_a_language_model_of_another_build_is_one_line() -> None:
    encoder = small_encoder()
    config = FindingsConfig(language_model="tiny")
    language = load_language(config, TEXTS, 0, torch.float32)
    shape = GPT2Config(vocab_size=len(language.tokenizer), n_embd=32, n_layer=1, n_head=2)
    with pytest.raises(RaddinoError, match=r"is a 'gpt2'.*Llama"):
        assemble(encoder, Language("mine", GPT2LMHeadModel(shape), language.tokenizer), config)


def test_a_damaged_configuration_builds_no_model_of_default_size(tmp_path: Path) -> None:
    folder = train_quickly(tmp_path, 4).folder
    assert str(tmp_path) not in (folder / "config.json").read_text(encoding="utf-8")
    record = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    for content in ("{}", '{"model_type": "llama"}', "[]", "{"):
        write_json(folder / "findings.json", record)
        (folder / "config.json").write_text(content, encoding="utf-8")
        with pytest.raises(RaddinoError, match=r"config.json is missing or not the file.*train again"):
            load_model(folder, CPU, torch.float32)
        write_json(folder / "findings.json", {key: value for key, value in record.items() if key != "sha256"})
        with pytest.raises(RaddinoError, match=r"cannot be loaded.*train again"):
            load_model(folder, CPU, torch.float32)
