"""What families from Transformers share: folders read without a network and without foreign code."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import normalize

from raddino.device import resolve_device
from raddino.encoders.base import ENCODERS, Encoder, Family, Features, Provenance, fingerprint
from raddino.encoders.preparation import Preparation
from raddino.encoders.weights import HUB, Weights, find_weights, read_index
from raddino.errors import RaddinoError
from raddino.files import read_json
from raddino.vit.weights import IMAGENET as OFFICIAL
from raddino.vit.weights import check_finite, read_weights

NEEDED = ("*.json", "*.txt", "*.model", "model*.safetensors")
TOKENIZERS = (("tokenizer.json",), ("spiece.model",), ("vocab.json", "merges.txt"))
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
INTERPOLATION = {2: "bilinear", 3: "bicubic"}
IMAGENET = (OFFICIAL.mean, OFFICIAL.std)
AGREEMENT = 1e-4
PROMPTS_AT_A_TIME = 64
AGAIN = "fetch the folder again"
MOST_LABELS = 2**16


class Make(Protocol):
    """Makes an encoder from weights that were found; ``known`` is what is on record about its family."""

    def __call__(self, weights: Weights, *, name: str, known: Provenance, device: str) -> Encoder: ...


def register(
    name: str,
    hub: str,
    make: Make,
    summary: str,
    known: Provenance,
    *,
    dim: int,
    side: int,
    needed: tuple[str, ...] = NEEDED,
    extra: str = "",
) -> None:
    """File a family that is published as the hub repository ``hub``; ``needed`` are its files that are fetched."""

    def load(place: str | None, device: str) -> Encoder:
        return make(find_weights(name, place, hub, needed), name=name, known=known, device=device)

    ENCODERS.register(name)(Family(load, summary, known, home=HUB + hub, extra=extra, dim=dim, side=side))


class HubEncoder:
    """A frozen network of Transformers behind the common face.

    Args:
        model: all the weights.
        preparation: its image processor's steps.
        grid: (rows, columns) of patches, None where there are none.
    """

    def __init__(
        self,
        model: Any,
        preparation: Preparation,
        *,
        name: str,
        dim: int,
        grid: tuple[int, int] | None,
        provenance: Provenance,
        device: str = "auto",
    ) -> None:
        self.device = resolve_device(device)
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.preparation, self.name, self.dim, self.grid = preparation, name, dim, grid
        self.provenance = provenance

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over weights, architecture and preprocessing."""
        return fingerprint(self.model, self.preparation, type(self).__name__, self.model.config.to_json_string())

    def preprocess(self, images: Sequence[np.ndarray]) -> Tensor:
        """Grey images (H, W), uint8 or uint16, to (B, 3, S, S), as the published image processor does it."""
        return self.preparation(self.name, images)

    @property
    def covered(self) -> tuple[int, int]:
        """(rows, columns) of pixels from the top left of a prepared image that the patch grid lies on."""
        config = getattr(self, "_vision", self.model).config
        patch = getattr(config, "patch_size", None)
        if self.grid is None or patch is None:
            return self.preparation.size
        halvings = len(getattr(config, "depths", [0])) - 1
        height, width = (patch, patch) if isinstance(patch, int) else patch
        return self.grid[0] * (height << halvings), self.grid[1] * (width << halvings)

    def read(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """What :meth:`encode` gives of a preprocessed batch, unchecked, on the device, and open to gradients."""
        cls, patches = self._read(batch.to(self.device))
        return cls, None if self.grid is None or patches is None else patches.unflatten(1, self.grid)

    @torch.inference_mode()
    def encode(self, batch: Tensor) -> Features:
        """Image embedding (B, D) and patches (B, H, W, D), float32.

        Raises:
            RaddinoError: a batch that :meth:`preprocess` cannot have made.
        """
        self.preparation.check(self.name, batch)
        if tuple(batch.shape[2:]) != self.preparation.size:
            raise RaddinoError(f"{self.name} takes images of {self.preparation.size}, got {tuple(batch.shape[2:])}")
        cls, patches = self.read(batch)
        return Features(cls.float().cpu(), None if patches is None else patches.float().cpu())

    @abstractmethod
    def _read(self, batch: Tensor) -> tuple[Tensor, Tensor | None]:
        """Embedding (B, D) and patches (B, H * W, D) of a batch on the device."""


class TwoTower(HubEncoder):
    """A vision and a text tower that share a space."""

    def __init__(self, *args: Any, folder: Path, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.folder = folder
        self.logit_scale = float(self.model.logit_scale.exp())

    @torch.inference_mode()
    def project(self, cls: Tensor) -> Tensor:
        """Image embeddings (N, D) of :meth:`encode` to unit vectors (N, P) of the shared space."""
        return normalize(self._project(cls.to(self.device)), dim=-1).float().cpu()

    @torch.inference_mode()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors (N, P) of N prompts; what exceeds the text tower's length is cut, as in its own library.

        Raises:
            RaddinoError: no prompt, or a tokenizer that cannot be read.
        """
        if isinstance(prompts, str) or not len(prompts):
            raise RaddinoError(f"{self.name} takes a list of prompts, at least one")
        parts = []
        for start in range(0, len(prompts), PROMPTS_AT_A_TIME):
            tokens = self._tokenize(list(prompts[start : start + PROMPTS_AT_A_TIME]))
            parts.append(normalize(self._text({k: v.to(self.device) for k, v in tokens.items()}), dim=-1))
        return torch.cat(parts).float().cpu()

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer in the folder.

        Raises:
            RaddinoError: there is none, or it cannot be read.
        """
        from transformers import AutoTokenizer

        if not any(all((self.folder / file).is_file() for file in files) for files in TOKENIZERS):
            files = ", ".join(" and ".join(names) for names in TOKENIZERS)
            raise RaddinoError(f"{self.name} has no tokenizer beside its weights: one of {files} is needed for text")
        try:
            with quiet():
                return AutoTokenizer.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # Transformers raises many kinds
            raise RaddinoError(
                f"{self.name}: its tokenizer cannot be read ({type(error).__name__}); "
                "spiece.model needs sentencepiece: pip install 'raddino[baselines]'"
            ) from None

    @abstractmethod
    def _project(self, cls: Tensor) -> Tensor: ...

    @abstractmethod
    def _tokenize(self, prompts: list[str]) -> dict[str, Tensor]: ...

    @abstractmethod
    def _text(self, tokens: dict[str, Tensor]) -> Tensor: ...


def read_config(name: str, weights: Weights, kinds: tuple[str, ...] = ()) -> dict[str, Any]:
    """``config.json`` of a folder.

    Raises:
        RaddinoError: no folder, no readable config, or a model_type that is not one of ``kinds``.
    """
    if not weights.path.is_dir():
        raise RaddinoError(f"{name} is read from a folder that Transformers wrote, {weights.path.name} is a file")
    config = read_json(weights.file("config.json"), AGAIN)
    _check_config(name, config)
    kind = config.get("model_type")
    if kinds and kind not in kinds:
        raise RaddinoError(f"{name} reads model_type {' or '.join(kinds)}; the folder's config.json says {kind!r}")
    return config


def weight_files(weights: Weights) -> list[Path]:
    """The files of a folder that Transformers reads the weights from, in its order of preference.

    Raises:
        RaddinoError: none.
    """
    found = weights.file("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    return [found] if found.suffix != ".json" else [weights.path / part for part in read_index(found)]


def _check_config(name: str, config: dict[str, Any]) -> None:
    """Refuse what Transformers acts on before it reads weights: a number that it makes a list of, foreign code."""
    for key, value in _entries(config):
        if key == "num_labels" and isinstance(value, int | float) and value > MOST_LABELS:
            raise RaddinoError(f"{name}: config.json says {key} is {value:.3g}; {AGAIN}")
        if key.endswith("attn_implementation") and isinstance(value, str) and "/" in value:
            raise RaddinoError(f"{name}: config.json asks for code from elsewhere ({key}); take that entry out")


def _entries(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a config that is no container, with the key that it stands under."""
    if isinstance(config, dict):
        for inner, value in config.items():
            yield from _entries(value, inner)
    elif isinstance(config, list):
        for value in config:
            yield from _entries(value, key)
    else:
        yield key, config


def load_model(name: str, factory: Any, weights: Weights) -> Any:
    """A model with all its weights from the folder, in float32.

    Args:
        name: of the encoder, for errors.
        factory: class of Transformers with ``from_pretrained``.
        weights: where.

    Raises:
        RaddinoError: not readable, or weights are missing, of another shape or not finite.
    """
    model, lost = load_partly(name, factory, weights)
    refuse_lost(name, lost)
    return model


def load_partly(name: str, factory: Any, weights: Weights) -> tuple[Any, list[str]]:
    """As :func:`load_model`, with the names of parameters that the files do not hold, which are random then."""
    files = weight_files(weights)
    remote = {"trust_remote_code": False} if factory.__name__ == "AutoModel" else {}
    try:
        with quiet():
            check_declared(name, factory, weights.path, files)
            model, report = factory.from_pretrained(
                weights.path, dtype=torch.float32, local_files_only=True, output_loading_info=True, **remote
            )
    except RaddinoError:
        raise
    except Exception as error:  # Transformers raises many kinds
        words = " ".join(str(error).replace(str(weights.path), "the folder").split())[:300]
        raise RaddinoError(f"{name}: Transformers cannot load it ({type(error).__name__}: {words})") from None
    check_finite(name, model.state_dict().items())
    return model.eval(), sorted(report["missing_keys"]) + sorted(str(key) for key in report["mismatched_keys"])


def check_declared(name: str, factory: Any, folder: Path, files: list[Path]) -> None:
    """Compare the network that ``config.json`` declares with the weights, before any memory is asked for it.

    Raises:
        RaddinoError: it has more layers than the files have tensors, or more than twice their parameters; an adapter.
    """
    from transformers import AutoConfig

    refuse_adapter(name, folder)
    shapes = [shape for file in files for shape in _shapes(file)]
    told = read_config(name, Weights(folder))
    layers = max(_depths(told), default=0)
    if layers > len(shapes):  # some configs list their layers when they are made
        raise RaddinoError(
            f"{name}: config.json declares {layers} layers, the weights are {len(shapes)} tensors in all"
        )
    if factory.__name__ == "AutoModel":
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    else:
        config = factory.config_class.from_pretrained(folder, local_files_only=True)
    layers = max(_depths(config.to_dict()), default=0)
    if layers > len(shapes):
        raise RaddinoError(
            f"{name}: config.json declares {layers} layers, the weights are {len(shapes)} tensors in all"
        )
    with torch.device("meta"):
        made = factory.from_config(config) if factory.__name__ == "AutoModel" else factory(config)
    declared, stored = sum(one.numel() for one in made.parameters()), sum(prod(shape) for shape in shapes)
    if declared > 2 * stored:
        raise RaddinoError(f"{name}: config.json declares {declared} parameters, the weights hold {stored}")


def _shapes(file: Path) -> list[tuple[int, ...]]:
    """Shapes of the tensors in a weights file; of safetensors only the header is read."""
    if file.suffix != ".safetensors":
        return [tuple(tensor.shape) for tensor in read_weights(file).values() if isinstance(tensor, Tensor)]
    with safe_open(file, "pt") as held:
        return [tuple(held.get_slice(key).get_shape()) for key in held.keys()]  # noqa: SIM118


def _depths(config: dict[str, Any]) -> Iterator[int]:
    """Every number of layers that a config declares, those of its parts included."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _depths(value)
        elif re.search(r"layers$|^depths?$|_depth$|stages$|blocks$", str(key)):
            yield from (one for one in (value if isinstance(value, list) else [value]) if isinstance(one, int))


def refuse_adapter(name: str, folder: Path) -> None:
    """Refuse a folder from which Transformers would load another model, the one that an adapter names, instead."""
    if (folder / "adapter_config.json").exists():
        raise RaddinoError(
            f"{name}: {folder.name} holds an adapter (adapter_config.json); merge it into its model first"
        )


def refuse_lost(name: str, lost: list[str]) -> None:
    """Raise RaddinoError where any parameter is named."""
    if lost:
        raise RaddinoError(f"{name}: {len(lost)} weights are missing or do not fit, first {lost[0]}; fetch them again")


def read_preparation(name: str, weights: Weights, published: Preparation | None = None) -> Preparation:
    """Steps of the folder's image processor, or ``published`` where the folder has none.

    What is read is compared with the processor's own output on noise, so that no step goes unnoticed.

    Raises:
        RaddinoError: no processor and nothing published, or one with other steps than ours.
    """
    if not any((weights.path / file).is_file() for file in PROCESSORS):
        if published is None:
            raise RaddinoError(f"{name}: {PROCESSORS[0]} is missing, so that its preprocessing is not known")
        return published
    for file in PROCESSORS:
        if (weights.path / file).is_file():
            read_json(weights.path / file, AGAIN)
    from transformers import AutoImageProcessor

    try:
        with quiet():
            processor = AutoImageProcessor.from_pretrained(weights.path, local_files_only=True, trust_remote_code=False)
        steps = _steps(processor)
        for candidate in (steps, replace(steps, float_resize=True), replace(steps, backend="pil")):
            if _agrees(candidate, processor):
                return candidate
    except RaddinoError as error:
        raise RaddinoError(f"{name}: {PROCESSORS[0]}: {error}; fetch the folder again") from None
    except Exception as error:  # Transformers raises many kinds; a damaged file shows in as many
        words = " ".join(str(error).replace(str(weights.path), "the folder").split())[:200]
        raise RaddinoError(f"{name}: {PROCESSORS[0]} cannot be read ({type(error).__name__}: {words})") from None
    raise RaddinoError(
        f"{name}: its {type(processor).__name__} does more than resize, centre crop, scale and normalise; "
        "raddino cannot prepare images for it"
    )


def _steps(processor: Any) -> Preparation:
    """Attributes of an image processor as our steps; whether that is all it does is for the caller to check."""

    def side(sizes: Any, key: str) -> Any:
        return sizes.get(key) if isinstance(sizes, dict) else getattr(sizes, key, None)

    shorter, fixed = (
        side(processor.size, "shortest_edge"),
        (side(processor.size, "height"), side(processor.size, "width")),
    )
    crop = side(processor.crop_size, "height") if getattr(processor, "do_center_crop", False) else None
    share = getattr(processor, "crop_pct", None)
    resize = shorter or fixed
    if shorter and share:
        resize, crop = (int(shorter / share), shorter) if shorter < 384 else ((shorter, shorter), None)
    if not getattr(processor, "do_resize", True) or not (crop or (shorter is None and all(fixed))):
        raise ValueError("images of different sizes would stay so")
    mean, std = processor.image_mean, processor.image_std
    if not getattr(processor, "do_normalize", True):
        mean, std = 0.0, 1.0
    return Preparation(
        resize=resize,
        crop=crop,
        mean=(float(mean),) * 3 if isinstance(mean, int | float) else tuple(mean),
        std=(float(std),) * 3 if isinstance(std, int | float) else tuple(std),
        interpolation=INTERPOLATION[int(processor.resample)],  # type: ignore[arg-type]
        maximum=255 * (processor.rescale_factor if getattr(processor, "do_rescale", True) else 1),
        crop_start="down",
    )


def _agrees(steps: Preparation, processor: Any) -> bool:
    """Whether two noise images, one to be shrunk and one to be enlarged, come out alike."""
    height, width = steps.size
    noise = np.random.default_rng(0)
    for shape in ((height + height // 3 + 5, 2 * width + 3), (height // 2 + 4, width // 3 + 5)):
        grey = noise.integers(0, 256, shape, dtype=np.uint8)
        theirs = processor(images=[np.repeat(grey[..., None], 3, axis=2)], return_tensors="pt")["pixel_values"]
        ours = steps("processor", [grey])
        scale = steps.maximum / min(steps.std)
        if theirs.shape != ours.shape or (theirs - ours).abs().max() > AGREEMENT * max(scale, 1.0):
            return False
    return True


@contextmanager
def quiet() -> Iterator[None]:
    """Transformers without its progress bars and advice; errors still are raised."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def patch_grid(preparation: Preparation, patch: int | Sequence[int]) -> tuple[int, int]:
    """(rows, columns) of whole patches in a prepared image."""
    height, width = (patch, patch) if isinstance(patch, int) else patch
    return preparation.size[0] // height, preparation.size[1] // width
