"""A trained segmentation model on disk: weights as safetensors, and a JSON file that says what they are for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from raddino.config import validate
from raddino.encoders.base import Encoder, Provenance
from raddino.errors import ConfigError, RaddinoError
from raddino.files import draft_of, read_json, sha256, write_json
from raddino.tasks.learning import TRUNK
from raddino.tasks.segmentation.network import Network, PatchNetwork, build_network, is_supervised, public
from raddino.tasks.segmentation.predict import Predictor, class_bits
from raddino.tasks.segmentation.settings import SegmentationConfig
from raddino.vit.weights import check_finite

FORMAT = 1
ABOUT = "segmentation.json"
TRAINS = "'raddino evaluate' trains the model again"
KNOWN = ("name", "fingerprint")
"""Texts of a record's encoder."""
HEAD, UNET, ENCODER = "head.safetensors", "unet.safetensors", "encoder.safetensors"


@dataclass(frozen=True)
class ModelRecord:
    """What :data:`ABOUT` says.

    Attributes:
        options: the task's settings.
        names: of the classes, in the order of the bits.
        spec: from which the encoder is made again; None where nothing does.
        encoder: ``name``, ``fingerprint`` and ``provenance`` of the encoder as it was before any fine-tuning.
        key: names data, settings and encoder of the training.
        shorter_side: pixels to which the training images were reduced; None where that is not known.
        side: pixels of the square targets.
        training: ``steps``, ``best_step``, ``dice`` (validation), ``history``, and the classes ``unseen`` in training.
        sha256: of each weights file, by its name.
    """

    options: SegmentationConfig
    names: tuple[str, ...]
    spec: str | None
    encoder: dict[str, Any]
    key: str
    shorter_side: int | None
    side: int
    training: dict[str, Any]
    sha256: dict[str, str] = field(default_factory=dict)


RECORD = TypeAdapter(ModelRecord)


class SegmentationModel:
    """A network with what is known of it.

    Attributes:
        network: in evaluation.
        record: see :class:`ModelRecord`.
        predictor: gives probabilities (C, H, W) of an image (H, W).
    """

    def __init__(self, network: Network, record: ModelRecord) -> None:
        self.network, self.record = network, record
        at = {name: position for position, name in enumerate(record.names)}
        pairs = record.options.mirror
        mirror = None if pairs is None else [(at[a], at[b]) for a, b in pairs]
        self.predictor = Predictor(network, record.options, mirror)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the classes."""
        return self.record.names

    @property
    def parameters(self) -> int:
        """Numbers that were trained."""
        return sum(one.numel() for one in self.network.parameters() if one.requires_grad)

    @property
    def digest(self) -> str:
        """12 hex digits that name weights and settings together."""
        said = json.dumps([self.record.key, self.record.sha256], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:12]

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Probabilities (C, H, W) float32 of a grey image (H, W), uint8 or uint16, of any size and shape."""
        return self.predictor(image)

    def segment(self, image: np.ndarray) -> np.ndarray:
        """Class bits (H, W) int32 of a grey image, see :func:`~raddino.tasks.segmentation.predict.class_bits`."""
        options = self.record.options
        return class_bits(self.predict(image), options.exclusive, options.drop_islands)

    def save(self, folder: Path) -> SegmentationModel:
        """Write weights, then :data:`ABOUT`, which makes the folder a model; returns the model as it stands there."""
        digests = {}
        for name, tensors in _files(self.network).items():
            with draft_of(folder / name) as draft:
                save_file({key: one.detach().cpu().contiguous() for key, one in tensors.items()}, draft)
            digests[name] = sha256(folder / name)
        record = ModelRecord(**{**vars(self.record), "sha256": digests})
        about = asdict(record) | {"format": FORMAT, "options": public(record.options)}
        write_json(folder / ABOUT, about)
        return SegmentationModel(self.network, record)

    @classmethod
    def load(
        cls, folder: str | Path, encoder: Encoder | str | None = None, device: str = "auto", precision: str = "fp32"
    ) -> SegmentationModel:
        """Read a folder that :meth:`save` wrote.

        Args:
            folder: of a task's model, ``RESULTS/models/TASK/ENCODER``.
            encoder: the encoder, or a spec of it; None for the spec in the record.
            device: where the networks run.
            precision: of the encoder.

        Raises:
            RaddinoError: no model, a damaged one, an encoder that cannot be had, or another one than it was trained on.
        """
        folder = Path(folder)
        record = read_record(folder)
        filled = record.options.model_copy(update={"unet_weights": None})  # nothing to fetch: all weights are here
        network = build_network(_encoder(folder, record, encoder, device), filled, device=device, precision=precision)
        for name, own in _files(network).items():
            _fill(folder / name, record, own)
        return cls(network.eval(), record)


def read_record(folder: Path) -> ModelRecord:
    """What a model's folder says of itself.

    Raises:
        RaddinoError: the folder holds no model, a damaged one, or one of another format.
    """
    file = folder / ABOUT
    if not file.is_file():
        raise RaddinoError(
            f"{folder} holds no segmentation model (no {ABOUT}); 'raddino evaluate' of a segmentation task writes one "
            "to models/TASK/ENCODER in its results folder"
        )
    again = f"delete {folder}, and {TRAINS}"
    about = read_json(file, again)
    version = about.pop("format", None)
    if isinstance(version, int) and version != FORMAT:
        raise RaddinoError(f"{folder} is a model of format {version}; this version reads {FORMAT}")
    try:
        record = RECORD.validate_python(about | {"options": validate(SegmentationConfig, about["options"])})
        said = record.encoder
        texts = all(isinstance(said[key], str) for key in KNOWN)
        if version != FORMAT or record.names != tuple(record.options.classes) or not texts:
            raise ValueError
        if said.get("provenance"):
            Provenance.from_dict(said["provenance"])
    except (ConfigError, KeyError, TypeError, ValueError, RaddinoError):
        raise RaddinoError(f"{file} is damaged: {again}") from None
    return record


def _files(network: Network) -> dict[str, dict[str, Tensor]]:
    """Weights files of a model and the tensors that each holds."""
    state = network.state_dict()
    if not isinstance(network, PatchNetwork):
        return {UNET: state}
    head = {name: one for name, one in state.items() if not name.startswith(TRUNK)}
    trunk = {name: one for name, one in state.items() if name.startswith(TRUNK)}
    return {HEAD: head} | ({ENCODER: trunk} if trunk else {})


@torch.no_grad()
def _fill(file: Path, record: ModelRecord, own: dict[str, Tensor]) -> None:
    """Copy a weights file into a network's tensors, in place."""
    again = f"copy the folder again, or delete it, and {TRAINS}"
    if not file.is_file():
        raise RaddinoError(f"{file.parent} lacks {file.name}: {again}")
    if sha256(file) != record.sha256.get(file.name):
        raise RaddinoError(f"{file} is damaged or not the file that {ABOUT} describes: {again}")
    try:
        with safe_open(file, "pt") as held:
            tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        raise RaddinoError(f"{file} cannot be read as safetensors: {again}") from None
    if {name: one.shape for name, one in tensors.items()} != {name: one.shape for name, one in own.items()}:
        raise RaddinoError(f"{file} holds the weights of another network: {again}")
    check_finite(str(file), tensors.items())
    for name, tensor in tensors.items():
        own[name].copy_(tensor)


def _encoder(folder: Path, record: ModelRecord, given: Encoder | str | None, device: str) -> Encoder:
    from raddino.encoders.load import load_encoder

    name = record.encoder["name"]
    if given is None and record.spec is None:
        raise RaddinoError(f"{folder} does not say where its encoder {name!r} is: give it, with encoder= or --encoder")
    if given is None or isinstance(given, str):
        spec = given or str(record.spec)
        try:
            encoder = load_encoder(spec, device=device)
        except RaddinoError as error:
            raise RaddinoError(
                f"the encoder {name!r} of {folder} cannot be loaded from {spec} ({error}): say where it is, with "
                "encoder= or --encoder"
            ) from None
    else:
        encoder = given
    if encoder.fingerprint != record.encoder["fingerprint"]:
        kind = "supervised U-Net" if is_supervised(encoder) else "encoder"
        raise RaddinoError(
            f"{folder} was trained on encoder {name!r} of fingerprint {record.encoder['fingerprint']}; the {kind} "
            f"{encoder.name!r} has {encoder.fingerprint}: give the one it was trained on"
        )
    return encoder
