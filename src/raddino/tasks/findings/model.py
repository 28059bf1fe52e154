"""A LLaVA from encoder, projector and language model: assembled, saved and loaded.

The standard form is Transformers' own ``LlavaForConditionalGeneration``: a ``Dinov2Model`` as tower, its last block's
output before the final norm (``vision_feature_layer=-1``; LLaVA too reads a tower before its final norm, CLIP's last
but one), class token dropped (``"default"``), projector of two layers (Liu et al. 2024, section 3). RAD-DINO's card
and MAIRA-2 read patches after the final norm; that, other projectors and pooled tokens are :class:`FindingsLlava`.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoTokenizer,
    Dinov2Config,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.llava.modeling_llava import LlavaModel

from raddino.encoders.base import Encoder
from raddino.encoders.huggingface import check_declared, quiet, weight_files
from raddino.encoders.ours import VitEncoder
from raddino.encoders.weights import Weights
from raddino.errors import RaddinoError
from raddino.files import draft_folder, read_json, sha256, write_json, write_text
from raddino.tasks.findings.language import Language
from raddino.tasks.findings.prompts import Template, load_template
from raddino.tasks.findings.settings import FindingsConfig
from raddino.tasks.findings.tower import has_tower, image_processor, vision_tower
from raddino.vit.weights import check_finite

RECORD = "findings.json"
AGAIN = "delete the folder and train again"
AGREEMENT = 1e-3


class FindingsLlavaConfig(LlavaConfig):
    """``LlavaConfig`` and what LLaVA's classes lack.

    Attributes:
        projector_layers: linear layers of the projector.
        token_pool: image tokens are means of p x p patches.
        final_norm: image tokens after the tower's final norm.
        image_grid: [rows, columns] of patches.
        leading_tokens: of the tower before its patches.
        carries_tower: False where image tokens come from a feature cache alone.
    """

    model_type = "findings_llava"
    projector_layers: int = 2
    token_pool: int = 1
    final_norm: bool = False
    image_grid: list[int] | None = None
    leading_tokens: int = 1
    carries_tower: bool = True


class Projector(nn.Module):
    """Patches (n, H x W, D) to image tokens (n, T, W'): pooled over p x p patches, then an MLP with GELU between."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.grid, self.pool = config.image_grid, config.token_pool
        wide = config.text_config.hidden_size
        layers: list[nn.Module] = [nn.Linear(config.vision_config.hidden_size, wide)]
        for _ in range(config.projector_layers - 1):
            layers += [nn.GELU(), nn.Linear(wide, wide)]
        self.layers = nn.Sequential(*layers)

    def forward(self, patches: Tensor) -> Tensor:
        """Cells at the lower and right border that fewer patches fill are the mean of those."""
        if self.pool > 1:
            image = patches.transpose(1, 2).unflatten(2, self.grid)
            patches = avg_pool2d(image, self.pool, ceil_mode=True, count_include_pad=False).flatten(2).transpose(1, 2)
        return self.layers(patches)


class _FindingsLlavaModel(LlavaModel):
    config_class = FindingsLlavaConfig
    vision_tower: Any
    multi_modal_projector: Any

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if not is_llava_projector(config):
            self.multi_modal_projector = Projector(config)
        if not config.carries_tower:
            self.vision_tower = nn.Identity()

    def get_image_features(self, pixel_values: Tensor, **kwargs: Any) -> Any:
        tokens = pixel_values if pixel_values.ndim == 3 else self._look(pixel_values)
        weight = next(self.multi_modal_projector.parameters())
        projected: Any = list(self.multi_modal_projector(tokens.to(weight.dtype)))
        return BaseModelOutputWithPooling(pooler_output=projected)

    def _look(self, pixels: Tensor) -> Tensor:
        if not self.config.carries_tower:
            raise RaddinoError("this model carries no vision tower: give patch features (n, T, D) of its encoder")
        seen = self.vision_tower(pixels, output_hidden_states=True)
        states = seen.last_hidden_state if self.config.final_norm else seen.hidden_states[-1]
        return states[:, self.config.leading_tokens :]


class FindingsLlava(LlavaForConditionalGeneration):
    """LLaVA that also takes patch features as ``pixel_values``: (n, H x W, D) instead of (n, 3, S, S).

    With a projector of two layers and no pooling its weights have LLaVA's own names.
    """

    config_class = FindingsLlavaConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = _FindingsLlavaModel(config)
        self.loss_type = "ForCausalLM"
        self.post_init()


AutoConfig.register(FindingsLlavaConfig.model_type, FindingsLlavaConfig, exist_ok=True)
AutoModelForImageTextToText.register(FindingsLlavaConfig, FindingsLlava, exist_ok=True)


def is_llava_projector(config: Any) -> bool:
    """Whether the projector is LLaVA's own."""
    return config.projector_layers == 2 and config.token_pool == 1


def is_standard(encoder: Encoder, config: FindingsConfig) -> bool:
    """Whether the saved model is plain LLaVA; otherwise its folder needs raddino."""
    plain = isinstance(encoder, VitEncoder) and not encoder.model.config.num_register_tokens
    return plain and is_llava_projector(config) and not config.final_norm


def image_tokens(encoder: Encoder, config: FindingsConfig) -> int:
    """``<image>`` tokens an image."""
    assert encoder.grid is not None
    rows, columns = (-(-side // config.token_pool) for side in encoder.grid)
    return rows * columns


def assemble(encoder: Encoder, language: Language, config: FindingsConfig, seed: int = 0) -> FindingsLlava:
    """A model to be trained on patch features; its projector is random by ``seed``, the tower is left out.

    Args:
        encoder: with a patch grid.
        language: becomes part of the model, not a copy.
        config: settings.
        seed: of the projector.

    Raises:
        RaddinoError: LLaVA's classes do not compute what the language model does.
    """
    values = _config(encoder, language, config, tower=False)
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                model = FindingsLlava(values)
        except (AttributeError, TypeError, ValueError):
            kind = language.model.config.model_type
            raise RaddinoError(
                f"language model {language.name!r} is a {kind!r}, which LLaVA's classes do not hold: take a decoder "
                "shaped as Llama, Mistral or Qwen2"
            ) from None
        torch.manual_seed(seed)
        model.model.multi_modal_projector.to_empty(device="cpu").float()
        for layer in model.model.multi_modal_projector.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
    _adopt(model, language.model)
    _check_equal(model, language)
    model.generation_config = _generation(language, config)
    return model.eval()


def save_model(
    folder: Path,
    model: FindingsLlava,
    encoder: Encoder,
    language: Language,
    config: FindingsConfig,
    facts: dict[str, Any],
) -> Path:
    """Write a trained model with its tower, processor and record; a reader never sees it half written.

    Args:
        folder: made or replaced.
        model: of :func:`assemble`, with adapters merged.
        encoder, language, config: what it was assembled from.
        facts: JSON-ready, go into ``findings.json``.
    """
    standard, tower = is_standard(encoder, config), has_tower(encoder)
    dtype = language.model.dtype
    values = _config(encoder, language, config, tower=tower)
    values.dtype = dtype
    with torch.device("meta"):
        saved = LlavaForConditionalGeneration(_plain(values)) if standard else FindingsLlava(values)
    saved.model.multi_modal_projector = model.model.multi_modal_projector
    saved.model.vision_tower = vision_tower(encoder).to(dtype) if tower else nn.Identity()
    _adopt(saved, model)
    saved.generation_config = _generation(language, config)
    record = {
        "encoder": encoder.fingerprint,
        "needs_raddino": not standard,
        "config": config.public(),
        "prompt": load_template(config.prompt).model_dump(),
    }
    with draft_folder(folder) as draft, quiet():
        saved.to(dtype).save_pretrained(draft)
        _processor(encoder, language, config).save_pretrained(draft)
        record["sha256"] = {file.name: sha256(file) for file in sorted(draft.iterdir()) if file.is_file()}
        write_json(draft / RECORD, record | facts)
        write_text(draft / "README.md", _readme(encoder, config, standard, tower))
    return folder


def read_record(folder: Path) -> dict[str, Any]:
    """``findings.json`` of a folder, its ``config`` a :class:`FindingsConfig` and its ``prompt`` a template.

    Raises:
        RaddinoError: there is none, or it is damaged.
    """
    if not (folder / RECORD).is_file():
        raise RaddinoError(f"{folder} holds no findings writer ({RECORD} is missing): train one")
    record = read_json(folder / RECORD, AGAIN)
    try:
        config, prompt = FindingsConfig.model_validate(record["config"]), Template.model_validate(record["prompt"])
        texts = isinstance(record["encoder"], str) and isinstance(record["needs_raddino"], bool)
        digests = record.get("sha256", {})
        if not texts or not isinstance(record.get("chosen", {}), dict) or not isinstance(digests, dict):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise RaddinoError(f"{folder / RECORD} is damaged: {AGAIN}") from None
    for name, digest in digests.items():
        file = folder / name
        if Path(name).name != name or not file.is_file() or sha256(file) != digest:
            raise RaddinoError(f"{file} is missing or not the file that {RECORD} describes: {AGAIN}")
    return record | {"config": config, "prompt": prompt, "chosen": record.get("chosen", {})}


def load_model(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """Model (plain LLaVA where the folder is that, else :class:`FindingsLlava`) and tokenizer of a folder.

    Raises:
        RaddinoError: they cannot be loaded.
    """
    record = read_record(folder)
    factory: Any = FindingsLlava if record["needs_raddino"] else LlavaForConditionalGeneration
    try:
        kind = read_json(folder / "config.json", AGAIN).get("model_type")
        if kind != factory.config_class.model_type:  # another one's defaults can be of any size
            raise ValueError(f"config.json is of a {kind!r}")
        with quiet():
            check_declared("findings writer", factory, folder, weight_files(Weights(folder)))
            values = factory.config_class.from_pretrained(folder, local_files_only=True)
            model: Any = factory.from_pretrained(folder, config=values, dtype=dtype, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        check_finite("findings writer", model.state_dict().items())
    except RaddinoError as error:
        raise RaddinoError(f"findings writer {folder} cannot be loaded ({error}): {AGAIN}") from None
    except Exception as error:  # Transformers raises many kinds
        words = " ".join(str(error).replace(str(folder), "the folder").split())[:200]
        raise RaddinoError(
            f"findings writer {folder} cannot be loaded ({type(error).__name__}: {words}): {AGAIN}"
        ) from None
    return model.to(device).eval(), tokenizer


def _config(encoder: Encoder, language: Language, config: FindingsConfig, tower: bool) -> FindingsLlavaConfig:
    assert encoder.grid is not None
    vision = vision_tower(encoder).config if tower else None
    text = deepcopy(language.model.config)
    text.name_or_path = ""  # a folder of this machine
    values: dict[str, Any] = dict(
        vision_config=vision or Dinov2Config(hidden_size=encoder.dim, num_attention_heads=1, num_hidden_layers=1),
        text_config=text,
        image_token_index=language.image_token,
        image_seq_length=image_tokens(encoder, config),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=language.model.config.tie_word_embeddings,
        projector_layers=config.projector_layers,
        token_pool=config.token_pool,
        final_norm=config.final_norm,
        image_grid=list(encoder.grid),
        leading_tokens=1 + getattr(vision, "num_register_tokens", 0),
        carries_tower=tower,
        bos_token_id=language.tokenizer.bos_token_id,
        eos_token_id=language.tokenizer.eos_token_id,
        pad_token_id=language.tokenizer.pad_token_id,
    )
    return FindingsLlavaConfig(**values)


def _plain(values: FindingsLlavaConfig) -> LlavaConfig:
    ours = set(FindingsLlavaConfig.__annotations__) | {"model_type", "architectures"}
    return LlavaConfig(**{key: value for key, value in values.to_dict().items() if key not in ours})


def _adopt(model: Any, source: Any) -> None:
    """Take blocks and output layer of a causal language model, or of another LLaVA."""
    inner = source.model.language_model if isinstance(source, LlavaForConditionalGeneration) else source.base_model
    head = source.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise RaddinoError("the language model's output layer has a bias, which LLaVA cannot hold: take another")
    model.model.language_model, model.lm_head = inner, head


@torch.inference_mode()
def _check_equal(model: FindingsLlava, language: Language) -> None:
    """Refuse language models that do more behind their blocks than LLaVA does, for example scale their logits."""
    ids = torch.arange(1, 6)[None] % language.model.config.vocab_size
    theirs, ours = (one.eval()(input_ids=ids).logits.float() for one in (language.model, model))
    if (theirs - ours).abs().max() > AGREEMENT * theirs.abs().max().clamp(min=1):
        raise RaddinoError(
            f"language model {language.name!r} computes its logits in a way that LLaVA's classes do not: take another"
        )


def _generation(language: Language, config: FindingsConfig) -> GenerationConfig:
    return GenerationConfig(
        do_sample=False,
        num_beams=config.beams,
        max_new_tokens=config.text_tokens,
        bos_token_id=language.tokenizer.bos_token_id,
        eos_token_id=language.tokenizer.eos_token_id,
        pad_token_id=language.tokenizer.pad_token_id,
    )


def _processor(encoder: Encoder, language: Language, config: FindingsConfig) -> Any:
    """LLaVA's processor; the tokenizer alone where images cannot be prepared without raddino."""
    if not isinstance(encoder, VitEncoder):
        return language.tokenizer
    assert encoder.grid is not None
    return LlavaProcessor(
        image_processor=image_processor(encoder),
        tokenizer=language.tokenizer,
        patch_size=encoder.model.config.patch_size,
        vision_feature_select_strategy="default",
        chat_template=language.tokenizer.chat_template,
        num_additional_image_tokens=1 + image_tokens(encoder, config) - encoder.grid[0] * encoder.grid[1],
    )


def _readme(encoder: Encoder, config: FindingsConfig, standard: bool, tower: bool) -> str:
    if standard:
        how = "Plain LLaVA: `LlavaForConditionalGeneration.from_pretrained(FOLDER)` and `AutoProcessor` load it."
    elif tower:
        how = "Needs raddino: `raddino.tasks.findings.model.FindingsLlava.from_pretrained(FOLDER)` loads it."
    else:
        how = "Needs raddino and its encoder: the folder carries no vision tower and reads that one's patch features."
    return (
        f"# Findings writer on {encoder.name}\n\n{how}\n\n"
        f"Language model: {config.language_name}. "
        f"Encoder weights: {encoder.provenance.licence or 'licence not known'}.\n"
        "Settings and counts of training are in `findings.json`. For research; not a medical device.\n"
    )
