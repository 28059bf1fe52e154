"""Write findings for images with a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from raddino.device import resolve_device
from raddino.encoders.base import Encoder
from raddino.errors import RaddinoError
from raddino.features.forward import resolve_precision
from raddino.progress import bar, subject
from raddino.tasks.findings.data import Example, PatchTokens, Writer, check_length
from raddino.tasks.findings.tower import reader

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus


def generate_findings(
    corpus: Corpus,
    rows: np.ndarray,
    encoder: Encoder,
    folder: Path,
    *,
    shown: np.ndarray | None = None,
    batch_size: int = 32,
    precision: str = "fp32",
    device: str = "auto",
    cache: Path | None = None,
) -> list[str]:
    """Findings texts of corpus images, the same for the same input.

    Args:
        corpus: where images and prompt columns lie.
        rows: (N,) row numbers whose prompts are told.
        encoder: the one that the model was trained on.
        folder: :attr:`~raddino.tasks.findings.train.Trained.folder`.
        shown: (N,) row numbers whose images are shown instead of those of ``rows``, for example shuffled ones.
        batch_size: images embedded, and texts written, at a time.
        precision, device, cache: as for :func:`~raddino.tasks.findings.train.train_findings`.

    Returns:
        N texts, in the order of ``rows``.

    Raises:
        RaddinoError: no model in the folder, or another encoder than it was trained on.
    """
    from raddino.tasks.findings.model import load_model, read_record

    record = read_record(folder)
    config = record["config"]
    if record["encoder"] != encoder.fingerprint:
        raise RaddinoError(f"findings writer {folder} was trained on another encoder than {encoder.name!r}: give it")
    if shown is not None and len(shown) != len(rows):
        raise RaddinoError(f"{len(rows)} images are described but {len(shown)} shown: give one for each")
    if not len(rows):
        return []
    place, precise = resolve_device(device), resolve_precision(precision, encoder)
    bf16 = precise == "bf16" and place.type == "cuda"
    model, tokenizer = load_model(folder, place, torch.bfloat16 if bf16 else torch.float32)
    writer = Writer(corpus, tokenizer, config, record["prompt"], model.config.image_seq_length)
    pictures = rows if shown is None else shown
    examples = [writer.example(int(row), shown=int(seen)) for row, seen in zip(rows, pictures, strict=True)]
    check_length(examples, getattr(model.config.text_config, "max_position_embeddings", None), config.text_tokens)
    patches = PatchTokens(
        corpus, reader(encoder, config.final_norm), np.array([row for one in examples for row in one.pictures]),
        cached=config.features == "cached", batch_size=batch_size, precision=precise, cache=cache,
    )  # fmt: skip
    texts: list[str] = []
    with bar(f"write findings on {subject(encoder.name)}", total=len(examples)) as progress:
        for start in range(0, len(examples), batch_size):
            part = examples[start : start + batch_size]
            tokens = patches([row for one in part for row in one.pictures])
            texts += write(model, tokenizer, part, tokens)
            progress.advance(len(part))
    return texts


@torch.inference_mode()
def write(model: Any, tokenizer: Any, examples: Sequence[Example], patches: Tensor) -> list[str]:
    """Texts for a batch of prompts, by the model's own generation settings (greedy, or beams).

    Args:
        model, tokenizer: of :func:`~raddino.tasks.findings.model.load_model`.
        examples: B prompts.
        patches: (n, H x W, D) features of all their images, one after another.
    """
    length = max(len(one.prompt) for one in examples)
    ids = torch.full((len(examples), length), tokenizer.pad_token_id)
    mask = torch.zeros_like(ids)
    for i, one in enumerate(examples):
        ids[i, length - len(one.prompt) :] = torch.tensor(one.prompt)
        mask[i, length - len(one.prompt) :] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    seen = model.model.multi_modal_projector(patches.to(model.device, model.dtype))
    words = model.get_input_embeddings()(ids)
    places = (ids == model.config.image_token_id)[..., None].expand_as(words)
    embedded = words.masked_scatter(places, seen.to(words.dtype))
    written = model.generate(inputs_embeds=embedded, attention_mask=mask)
    return [text.strip() for text in tokenizer.batch_decode(written, skip_special_tokens=True)]
