"""Images and texts of a corpus as what the language model reads: patch features, prompts and token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from raddino.encoders.base import Encoder
from raddino.errors import RaddinoError
from raddino.features.extract import embed
from raddino.tasks.findings.prompts import IMAGE, Template, conversation, render, without_marks
from raddino.tasks.findings.settings import FindingsConfig

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

IGNORED = -100
"""Label of tokens that are not learnt (PyTorch's cross-entropy)."""


@dataclass(frozen=True)
class Reports:
    """Images with their texts.

    Attributes:
        rows: (N,) row numbers in the corpus.
        texts: N findings texts, cleaned; empty ones are left out of training and counted.
    """

    rows: np.ndarray
    texts: Sequence[str]


class FurtherImages:
    """Which images of a corpus stand beside one: its study's lateral, the patient's previous frontal.

    Args:
        manifest: of the corpus; without the columns that tell (``study`` and ``view``, ``study_order``) there are none.
        kinds: ``"lateral"``, ``"prior"``, in the order in which they are shown.
    """

    def __init__(self, manifest: pd.DataFrame, kinds: Sequence[str]) -> None:
        self.kinds = tuple(kinds)
        table = manifest.reindex(columns=["patient", "study", "view", "study_order"]) if kinds else pd.DataFrame()
        self.facts = [tuple(None if pd.isna(one) else one for one in row) for row in table.itertuples(index=False)]
        self.laterals: dict[Any, int] = {}
        self.frontals: dict[Any, dict[float, int]] = {}
        for row, (patient, study, view, order) in enumerate(self.facts):
            if patient is None or view is None:
                continue
            if view == "LATERAL" and study is not None:
                self.laterals.setdefault((patient, study), row)
            if view != "LATERAL" and order is not None:
                self.frontals.setdefault(patient, {}).setdefault(order, row)

    def __call__(self, row: int) -> list[tuple[str, int]]:
        """(kind, row number) of the images that there are."""
        found = [(kind, self._lateral(row) if kind == "lateral" else self._prior(row)) for kind in self.kinds]
        return [(kind, other) for kind, other in found if other is not None and other != row]

    def _lateral(self, row: int) -> int | None:
        patient, study, _, _ = self.facts[row]
        return self.laterals.get((patient, study))

    def _prior(self, row: int) -> int | None:
        patient, _, _, now = self.facts[row]
        earlier = {order: at for order, at in self.frontals.get(patient, {}).items() if now is not None and order < now}
        return earlier[max(earlier)] if earlier else None


class PatchTokens:
    """Patch features of corpus images, from a cache in half precision or computed when asked for.

    Args:
        corpus: where the images lie.
        encoder: of :func:`~raddino.tasks.findings.tower.reader`.
        rows: row numbers that will be asked for.
        cached: embed them first, see :func:`~raddino.features.extract.embed`.
        batch_size, precision, cache: of the embedding.
    """

    def __init__(
        self,
        corpus: Corpus,
        encoder: Encoder,
        rows: np.ndarray,
        *,
        cached: bool,
        batch_size: int,
        precision: str,
        cache: Path | None,
    ) -> None:
        self.corpus, self.encoder, self.array = corpus, encoder, None
        if cached:
            options: dict[str, Any] = {"batch_size": batch_size, "precision": precision, "cache": cache}
            features = embed(corpus, encoder, rows=np.unique(rows), patches=True, **options)
            assert features.patches is not None
            self.array = features.patches.array

    def __call__(self, rows: Sequence[int]) -> Tensor:
        """(n, H x W, D) float32 in row-major image order."""
        if self.array is not None:
            return torch.from_numpy(np.asarray(self.array[list(rows)], dtype=np.float32)).flatten(1, 2)
        patches = self.encoder.encode(self.encoder.preprocess([self.corpus.read(row) for row in rows])).patches
        assert patches is not None
        return patches.flatten(1, 2).clone()


@dataclass(frozen=True)
class Example:
    """What one image becomes.

    Attributes:
        pictures: row numbers of the images, in the order of their ``<image>`` tokens.
        prompt: token ids up to where the answer begins.
        answer: token ids of text and end; empty where there is none to learn.
    """

    pictures: tuple[int, ...]
    prompt: list[int]
    answer: list[int] = field(default_factory=list)


class Writer:
    """Turns rows of a corpus and texts into token ids.

    Args:
        corpus: with the columns that the prompt tells.
        tokenizer: of :class:`~raddino.tasks.findings.language.Language`.
        config: settings.
        template: words of the prompt.
        image_tokens: ``<image>`` tokens an image.
    """

    def __init__(
        self, corpus: Corpus, tokenizer: Any, config: FindingsConfig, template: Template, image_tokens: int
    ) -> None:
        self.tokenizer, self.config, self.template, self.image_tokens = tokenizer, config, template, image_tokens
        self.further = FurtherImages(corpus.manifest, config.images)
        manifest = corpus.manifest
        self.told = {
            name: manifest[name].tolist() if asked and name in manifest else None
            for name, asked in (("indication", config.indication), ("comparison", config.comparison))
        }

    def example(self, row: int, text: str | None = None, shown: int | None = None) -> Example:
        """Prompt of ``row`` with the images of ``shown`` (its own by default), and the text as answer."""
        beside = self.further(row if shown is None else shown)
        texts = {name: self._text(values, row) for name, values in self.told.items()}
        prompt = render(self.tokenizer, conversation(self.template, [kind for kind, _ in beside], **texts))
        pictures = (row if shown is None else shown, *(other for _, other in beside))
        return Example(pictures, self._prompt_ids(prompt), [] if text is None else self._answer_ids(text)[0])

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than ``text_tokens``."""
        return self._answer_ids(text)[1]

    def _prompt_ids(self, prompt: str) -> list[int]:
        begins = self.tokenizer.bos_token
        once = not (begins and prompt.startswith(begins))
        return self.tokenizer(prompt.replace(IMAGE, IMAGE * self.image_tokens), add_special_tokens=once)["input_ids"]

    def _answer_ids(self, text: str) -> tuple[list[int], bool]:
        """Ids of a text with its end, and whether it was cut; a cut one has no end."""
        ids = self.tokenizer(without_marks(self.tokenizer, text).strip(), add_special_tokens=False)["input_ids"]
        limit = self.config.text_tokens
        return (ids[:limit], True) if len(ids) > limit else ([*ids, self.tokenizer.eos_token_id], False)

    @staticmethod
    def _text(values: list[Any] | None, row: int) -> str | None:
        return values[row] if values is not None and isinstance(values[row], str) else None


def check_length(examples: Sequence[Example], positions: int | None, more: int) -> None:
    """Refuse prompts that leave no room for ``more`` tokens in a language model of so many ``positions``.

    Raises:
        RaddinoError: with the remedy.
    """
    longest = max((len(example.prompt) for example in examples), default=0) + more
    if positions is not None and longest > positions:
        raise RaddinoError(
            f"prompt and text take up to {longest} tokens, the language model has {positions} positions: "
            "raise token_pool, lower text_tokens or ask for fewer images"
        )


class Collator:
    """Examples to one padded batch: ``input_ids``, ``attention_mask``, ``labels`` (B, L), ``pixel_values`` (n, T, D).

    Args:
        patches: gives the features; images of all examples lie one after another.
        pad: token id.
    """

    def __init__(self, patches: PatchTokens, pad: int) -> None:
        self.patches, self.pad = patches, pad

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        length = max(len(one.prompt) + len(one.answer) for one in examples)
        ids = torch.full((len(examples), length), self.pad)
        mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
        for i, one in enumerate(examples):
            end = len(one.prompt) + len(one.answer)
            ids[i, :end] = torch.tensor(one.prompt + one.answer)
            mask[i, :end] = 1
            labels[i, len(one.prompt) : end] = torch.tensor(one.answer, dtype=torch.long)
        pictures = [row for one in examples for row in one.pictures]
        return {"input_ids": ids, "attention_mask": mask, "labels": labels, "pixel_values": self.patches(pictures)}
