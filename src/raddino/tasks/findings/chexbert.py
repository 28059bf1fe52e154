"""CheXbert, a BERT that reads 14 findings in a report (Smit et al., EMNLP 2020), on weights that the user brings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from raddino.device import resolve_device
from raddino.encoders.weights import weights_folder
from raddino.errors import RaddinoError
from raddino.files import sha256
from raddino.metrics.clinical import FINDINGS_14
from raddino.metrics.ranking import Floats
from raddino.progress import bar
from raddino.vit.weights import check_finite, read_weights

if TYPE_CHECKING:
    from transformers import BertModel, BertTokenizer

HEADS = (
    "enlarged_cardiomediastinum", "cardiomegaly", "lung_opacity", "lung_lesion", "edema", "consolidation",
    "pneumonia", "atelectasis", "pneumothorax", "pleural_effusion", "pleural_other", "fracture", "support_devices",
    "no_finding",
)  # fmt: skip
"""Findings in the order of the checkpoint's heads."""
MEANING = np.array([np.nan, 1.0, 0.0, -1.0])
"""Of a head's classes: blank, positive, negative, uncertain. The last head has the first two only."""
MAX_TOKENS = 512
HEAD_DIM = 64
CHECKPOINT, VOCABULARY = "chexbert.pth", "vocab.txt"
MISSING = (
    f"weights not provided: get {CHECKPOINT} from https://github.com/stanfordmlgroup/CheXbert and {VOCABULARY} from "
    "https://huggingface.co/google-bert/bert-base-uncased, and put both into $RADDINO_WEIGHTS/chexbert (by default "
    "~/.cache/raddino/weights/chexbert)"
)


class CheXbert:
    """Labels texts. Make one with :func:`find_chexbert`.

    Args:
        bert: the body, without pooler.
        heads: 14 linear layers on the hidden state of the first token, in the order of :data:`HEADS`.
        tokenizer: of bert-base-uncased.
        device: where they run.
        digest: SHA-256 of the checkpoint.
        batch_size: texts at a time.
    """

    def __init__(
        self,
        bert: BertModel,
        heads: nn.ModuleList,
        tokenizer: BertTokenizer,
        device: torch.device,
        digest: str,
        batch_size: int = 32,
    ) -> None:
        self.bert, self.heads = bert.eval().to(device), heads.eval().to(device)
        self.tokenizer, self.device, self.batch_size = tokenizer, device, batch_size
        self.tokens = min(MAX_TOKENS, bert.config.max_position_embeddings)
        self.signature = f"CheXbert|weights:{digest[:8]}|{self.tokens} tokens"

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Labels (N, 14) in the order of :data:`FINDINGS_14`: 1, 0, -1 (uncertain), NaN (not mentioned).

        Texts are cut after 512 tokens. An empty text is labelled as any other, as the original program does.
        """
        classes = np.zeros((len(texts), len(HEADS)), dtype=int)
        by_length = np.argsort([len(text) for text in texts], kind="stable")
        with bar("CheXbert", len(texts)) as shown:
            for start in range(0, len(texts), self.batch_size):
                rows = by_length[start : start + self.batch_size]
                logits = self.logits([texts[row] for row in rows])
                classes[rows] = np.stack([head.argmax(1).cpu().numpy() for head in logits], axis=1)
                shown.advance(len(rows))
        return MEANING[classes][:, [HEADS.index(name) for name in FINDINGS_14]]

    @torch.inference_mode()
    def logits(self, texts: Sequence[str]) -> list[Tensor]:
        """Outputs of the heads for one batch, thirteen of (B, 4) and one of (B, 2)."""
        batch = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.tokens, return_tensors="pt"
        ).to(self.device)
        hidden = self.bert(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        return [head(hidden[:, 0]) for head in self.heads]


def find_chexbert(folder: Path | None = None, device: str = "auto", batch_size: int = 32) -> CheXbert | None:
    """CheXbert from a folder with ``chexbert.pth`` and bert-base-uncased's ``vocab.txt``.

    Args:
        folder: None looks in the ``chexbert`` folder beside other weights.
        device: see :func:`~raddino.device.resolve_device`.
        batch_size: texts at a time.

    Returns:
        None where nothing is given or placed; :data:`MISSING` is the reason.

    Raises:
        RaddinoError: a file is missing from the folder, damaged, or not CheXbert's.
    """
    place = weights_folder() / "chexbert" if folder is None else Path(folder).expanduser()
    if folder is None and not place.is_dir():
        return None
    checkpoint, vocabulary = place / CHECKPOINT, place / VOCABULARY
    for file in (checkpoint, vocabulary):
        if not file.is_file():
            raise RaddinoError(f"CheXbert: no {file.name} in its folder; {MISSING.partition(': ')[2]}")
    bert, heads = _network(_state(read_weights(checkpoint)))
    tokenizer = _tokenizer(vocabulary, bert.config.vocab_size)
    return CheXbert(bert, heads, tokenizer, resolve_device(device), sha256(checkpoint), batch_size)


def _state(content: Any) -> dict[str, Tensor]:
    """Weights of ``bert.`` and ``linear_heads.``, freed of the prefix of ``DataParallel``, the pooler left out."""
    state = content.get("model_state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise RaddinoError(f"{CHECKPOINT} holds no 'model_state_dict' of tensors: it is not CheXbert's checkpoint")
    named = {str(name).removeprefix("module."): tensor.float() for name, tensor in state.items()}
    unused = ("bert.pooler.", "bert.embeddings.position_ids")
    used = {name: tensor for name, tensor in named.items() if not name.startswith(unused)}
    check_finite(CHECKPOINT, used.items())
    return used


def _network(state: dict[str, Tensor]) -> tuple[BertModel, nn.ModuleList]:
    """Body and heads of the size that the weights have; checked without memory before they are built."""
    try:
        from transformers import BertConfig, BertModel
        from transformers.utils import logging

        logging.disable_progress_bar()
        words = state["bert.embeddings.word_embeddings.weight"]
        layers = {match[1] for name in state if (match := re.match(r"bert\.encoder\.layer\.(\d+)\.", name))}
        config = BertConfig(
            vocab_size=words.shape[0],
            hidden_size=words.shape[1],
            num_hidden_layers=len(layers),
            num_attention_heads=max(1, words.shape[1] // HEAD_DIM),
            intermediate_size=state["bert.encoder.layer.0.intermediate.dense.weight"].shape[0],
            max_position_embeddings=state["bert.embeddings.position_embeddings.weight"].shape[0],
            type_vocab_size=state["bert.embeddings.token_type_embeddings.weight"].shape[0],
        )

        def build() -> nn.ModuleDict:
            sizes = [len(MEANING)] * (len(HEADS) - 1) + [2]
            heads = nn.ModuleList(nn.Linear(config.hidden_size, size) for size in sizes)
            return nn.ModuleDict({"bert": BertModel(config, add_pooling_layer=False), "linear_heads": heads})

        with torch.device("meta"):
            build().load_state_dict(state, assign=True)
        network = build()
        network.load_state_dict(state)
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise RaddinoError(f"{CHECKPOINT} does not fit CheXbert, a BERT with {len(HEADS)} heads: {said}") from None
    return network["bert"], network["linear_heads"]  # type: ignore[return-value]


def _tokenizer(vocabulary: Path, words: int) -> BertTokenizer:
    """The lower-casing WordPiece tokenizer of a vocabulary that has as many words as the network."""
    from transformers import BertTokenizer

    try:
        known = vocabulary.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise RaddinoError(f"{VOCABULARY} is not text in UTF-8: take bert-base-uncased's") from None
    known = known[:-1] if known[-1] == "" else known
    lacking = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} - set(known)
    if lacking or len(known) != words:
        raise RaddinoError(
            f"{VOCABULARY} has {len(known)} words where CheXbert's weights have {words}: take bert-base-uncased's"
            if not lacking
            else f"{VOCABULARY} lacks {', '.join(sorted(lacking))}: take bert-base-uncased's"
        )
    return BertTokenizer(vocab={word: at for at, word in enumerate(known)}, do_lower_case=True)
