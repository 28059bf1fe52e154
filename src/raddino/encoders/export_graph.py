"""An encoder as a graph that runs without raddino: torch.export, ONNX."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from raddino.encoders.export_weights import at_input_size
from raddino.encoders.ours import VitEncoder

if TYPE_CHECKING:
    from raddino.vit import VitConfig

PROGRAM, GRAPH = "model.pt2", "model.onnx"
OPSET = 20
INPUT, OUTPUTS = "images", ("cls", "patches")
FOLD_LIMIT = 1 << 30
"""Numbers up to which ONNX constants are computed at export time: all weights of any encoder here."""


class Deployed(nn.Module):
    """Images in, features out: normalisation inside, float32 at both ends whatever the network computes in."""

    def __init__(self, encoder: VitEncoder, precision: str) -> None:
        super().__init__()
        self.mean, self.std = encoder.mean, encoder.std
        self.dtype = torch.float16 if precision == "fp16" else torch.float32
        self.vit = at_input_size(encoder).to(self.dtype)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Grey (B, 1, S, S) float32 in [0, 1] to ``cls`` (B, D) and ``patches`` (B, S/P, S/P, D), float32."""
        tokens = self.vit(((images - self.mean) / self.std).to(self.dtype))
        return {"cls": tokens.cls.float(), "patches": tokens.patches.unflatten(1, tokens.grid).float()}


def traced(encoder: VitEncoder, precision: str) -> torch.export.ExportedProgram:
    """The encoder as an exported program, any batch size >= 1, height and width fixed.

    Paths and source lines of this machine, which the tracer leaves on every node, are taken off.
    """
    example = torch.zeros(2, 1, encoder.size, encoder.size)
    shapes = {INPUT: {0: torch.export.Dim("batch", min=1)}}
    program = torch.export.export(Deployed(encoder, precision).eval(), (example,), dynamic_shapes=shapes, strict=True)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


def write_program(encoder: VitEncoder, folder: Path, precision: str) -> dict[str, str]:
    """A ``.pt2`` file of torch.export, by way of memory: torch itself ends the process where the disk is full."""
    program = io.BytesIO()
    torch.export.save(traced(encoder, precision), program)
    (folder / PROGRAM).write_bytes(program.getbuffer())
    return {
        "Computes in": precision,
        "Container": "zip by torch.export: graph in JSON, weights as raw bytes, and an example input that torch "
        "pickles. `torch.export.load` may run code from a pickle: load the file only if its SHA-256 is the one below",
    }


def run_program(folder: Path, encoder: VitEncoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features of the program read back, as for every format: see ``Format.run``."""
    found = torch.export.load(folder / PROGRAM).module()(images)
    return found["cls"], found["patches"].flatten(1, 2)


def program_usage(shape: VitConfig) -> str:
    """Python that runs the program; no raddino needed."""
    side = shape.image_size
    return f"""import torch

model = torch.export.load("{PROGRAM}").module()
features = model(images)  # images: float32 (B, 1, {side}, {side}) in [0, 1]
cls, patches = features["cls"], features["patches"]"""


def write_onnx(encoder: VitEncoder, folder: Path, precision: str) -> dict[str, str]:
    """An ``.onnx`` file; weights beyond 2 GB go beside it into ``model.onnx.data``."""
    import onnxscript.optimizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            traced(encoder, precision), (), dynamo=True, opset_version=OPSET, verbose=False,
            input_names=[INPUT], output_names=list(OUTPUTS), dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
        )  # fmt: skip
    assert program is not None
    onnxscript.optimizer.optimize(program.model, input_size_limit=FOLD_LIMIT, output_size_limit=FOLD_LIMIT)
    for node in program.model.graph:
        node.metadata_props.clear()
    program.save(str(folder / GRAPH))
    return {"Computes in": precision, "Opset": str(OPSET)}


def run_onnx(folder: Path, encoder: VitEncoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features that onnxruntime computes on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(folder / GRAPH, options, providers=["CPUExecutionProvider"])
    cls, patches = (torch.from_numpy(found) for found in session.run(list(OUTPUTS), {INPUT: images.numpy()}))
    return cls, patches.flatten(1, 2)


def onnx_usage(shape: VitConfig) -> str:
    """Python that runs the graph; neither raddino nor PyTorch needed."""
    side = shape.image_size
    return f"""import onnxruntime

session = onnxruntime.InferenceSession("{GRAPH}")
# images: NumPy float32 (B, 1, {side}, {side}) in [0, 1]
cls, patches = session.run(["cls", "patches"], {{"images": images}})"""
