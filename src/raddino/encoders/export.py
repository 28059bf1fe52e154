"""Encoders in other libraries' formats, each read back and compared with the original before it is handed over."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

import raddino
from raddino.encoders import export_graph, export_weights
from raddino.encoders.card import TRANSFORMERS, Interface, model_card
from raddino.encoders.load import load_encoder
from raddino.encoders.ours import VitEncoder
from raddino.errors import ConfigError, RaddinoError, did_you_mean
from raddino.files import draft_folder, sha256, write_text
from raddino.registry import Registry

RECORD = "export.json"
LIMITS = {"fp32": 1e-4, "fp16": 5e-2}
"""Largest difference of any feature from the original, in units of the features' root mean square."""
BATCHES = (1, 3)


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        write: puts the files of an encoder into a folder, in a precision; returns facts for the card.
        run: reads the folder back with the library that it is for: grey images (B, 1, S, S) in [0, 1] to class
            tokens (B, D) and patches (B, N, D).
        interface: how users call it.
        summary: one line for help.
        needs: modules that have to be installed, and the extra of this package that brings them.
        precisions: what it can compute in, the default first.
    """

    write: Callable[[VitEncoder, Path, str], dict[str, str]]
    run: Callable[[Path, VitEncoder, Tensor], tuple[Tensor, Tensor]]
    interface: Interface
    summary: str
    needs: tuple[str, ...] = ()
    extra: str = ""
    precisions: tuple[str, ...] = ("fp32",)


FORMATS: Registry[Format] = Registry("export format")
FORMATS.register("huggingface")(
    Format(
        export_weights.write_huggingface,
        export_weights.run_huggingface,
        TRANSFORMERS,
        "folder for transformers' AutoModel and AutoImageProcessor",
    )
)
FORMATS.register("official")(
    Format(
        export_weights.write_official,
        export_weights.run_official,
        Interface("dinov2", export_weights.official_usage),
        "names of DINOv2's released checkpoints, in safetensors",
    )
)
FORMATS.register("timm")(
    Format(
        export_weights.write_timm,
        export_weights.run_timm,
        Interface("timm", export_weights.timm_usage, pil=True),
        "folder for timm.create_model('local-dir:...')",
        ("timm",),
        "baselines",
    )
)
FORMATS.register("torch-export")(
    Format(
        export_graph.write_program,
        export_graph.run_program,
        Interface("pytorch", export_graph.program_usage, channels=1, normalises=True),
        "one .pt2 graph for PyTorch, normalisation inside",
        precisions=("fp32", "fp16"),
    )
)
FORMATS.register("onnx")(
    Format(
        export_graph.write_onnx,
        export_graph.run_onnx,
        Interface("onnx", export_graph.onnx_usage, channels=1, normalises=True),
        "one .onnx graph, normalisation inside",
        ("onnx", "onnxscript", "onnxruntime"),
        "export",
        ("fp32", "fp16"),
    )
)


def export(
    encoder: str | Path, out: str | Path, format: str, *, precision: str = "fp32", overwrite: bool = False
) -> Path:
    """Write an encoder for another library, with a model card and a record of the export.

    What was written is read back by that library and run; it has to give the original's features within
    :data:`LIMITS`. Position embeddings are stored for the encoder's own input size, where no library interpolates.

    Args:
        encoder: spec of :func:`load_encoder`; a vision transformer in DINOv2's shape.
        out: folder to make; a reader never sees it half written.
        format: a name in :data:`FORMATS`.
        precision: ``"fp32"``, or ``"fp16"`` for the graph formats; weights are stored in it.
        overwrite: replace an earlier export at ``out``.

    Returns:
        ``out``, with the files of the format, ``README.md``, ``export.json`` and what is on record of the images seen.

    Raises:
        ConfigError: unknown precision, or ``out`` is taken.
        RaddinoError: unknown format or encoder, an encoder of another kind, a library that is not installed, or
            features that differ from the original's; then nothing is left at ``out``.
    """
    chosen, out = FORMATS[format], Path(out)
    _check(format, chosen, out, precision, overwrite)
    original = load_encoder(encoder, "cpu")
    if not isinstance(original, VitEncoder):
        raise RaddinoError(
            f"{original.name} cannot be exported: only vision transformers in DINOv2's shape can "
            "(raddino's own, RAD-DINO, DINOv2); convert others with the library that they come from"
        )
    with draft_folder(out) as folder:
        facts = chosen.write(original, folder, precision)
        difference = _compare(format, chosen, folder, original, LIMITS[precision])
        _describe(folder, format, chosen, original, facts, precision, difference)
        if original.seen_images:
            original.seen_images.save(folder)
    return out


def _check(format: str, chosen: Format, out: Path, precision: str, overwrite: bool) -> None:
    if precision not in LIMITS:
        raise ConfigError(
            f"unknown precision {precision!r}.{did_you_mean(precision, LIMITS)} Known: {', '.join(LIMITS)}."
        )
    if precision not in chosen.precisions:
        able = [name for name in FORMATS if precision in FORMATS[name].precisions]
        raise ConfigError(f"{format} is written in {chosen.precisions[0]} only; {precision} is for {', '.join(able)}")
    if out.suffix in (".onnx", ".pt2", ".pt", ".pth", ".safetensors"):
        raise ConfigError(f"{out} would be a folder, which holds the model file and its card: give {out.stem}/")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists: give another folder, or --overwrite to replace an earlier export")
    if out.exists() and not (out / RECORD).is_file():
        raise ConfigError(f"{out} is no earlier export (it lacks {RECORD}) and is not replaced: give another folder")
    missing = [name for name in chosen.needs if importlib.util.find_spec(name) is None]
    if missing:
        raise RaddinoError(f"{format} needs {', '.join(missing)}: pip install 'raddino[{chosen.extra}]'")


@torch.inference_mode()
def _compare(format: str, chosen: Format, folder: Path, original: VitEncoder, limit: float) -> float:
    """Largest difference of the features read back, in units of their root mean square."""
    found = []
    for images in _images(original.size):
        features = original.encode((images - original.mean) / original.std)
        assert features.patches is not None
        again = chosen.run(folder, original, images)
        for ours, theirs in zip((features.cls, features.patches.flatten(1, 2)), again, strict=True):
            found.append((theirs - ours).abs().max() / ours.square().mean().sqrt().clamp_min(1e-12))
    worst = float(torch.stack(found).max())
    if not worst <= limit:
        raise RaddinoError(
            f"{original.name} as {format}: features read back differ by {worst:.2g} of their size, {limit:g} is "
            "allowed; nothing was written. A network whose numbers are too large for fp16 needs fp32"
        )
    return worst


def _images(size: int) -> Iterator[Tensor]:
    """Smooth random grey images (B, 1, S, S) in [0, 1], one batch of each size."""
    generator = torch.Generator().manual_seed(0)
    for batch in BATCHES:
        coarse = torch.rand(batch, 1, 8, 8, generator=generator)
        yield torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def _describe(
    folder: Path, format: str, chosen: Format, original: VitEncoder, facts: dict[str, str], precision: str,
    difference: float,
) -> None:  # fmt: skip
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in sorted(folder.iterdir())
        if file.suffix in (".safetensors", ".onnx", ".data", ".pt2")
    }
    record = {
        "format": format,
        "raddino": raddino.__version__,
        "torch": torch.__version__.partition("+")[0],
        "encoder": original.name,
        "fingerprint": original.fingerprint,
        "precision": precision,
        "files": files,
        "input": {
            "shape": ["batch", chosen.interface.channels, original.size, original.size],
            "normalised_by_caller": not chosen.interface.normalises,
        },
        "preparation": asdict(original.preparation),
        "check": {"difference": difference, "limit": LIMITS[precision], "batches": list(BATCHES)},
        "provenance": original.provenance.to_dict(),
    }
    write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")
    rows = {
        "Format": format,
        **facts,
        "Positions": f"stored for {original.size} x {original.size} px",
        "Checked": f"batches of {' and '.join(map(str, BATCHES))} smooth random images; largest difference of a "
        f"feature {difference:.2g} of the features' root mean square ({LIMITS[precision]:g} allowed)",
        "Exported from": f"`{original.name}`, fingerprint `{original.fingerprint}`",
        "Written by": f"raddino {record['raddino']}, torch {record['torch']}",
        **{f"`{name}`": f"{about['bytes']:,} bytes, SHA-256 `{about['sha256']}`" for name, about in files.items()},
    }
    stored = export_weights.at_input_size(original)
    card = model_card(original.name, stored, original.preparation, original.provenance, chosen.interface, rows)
    write_text(folder / "README.md", card)
