"""The model card: what an encoder saw, how images are prepared for it, its licence and its limits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import raddino
from raddino.encoders.base import Provenance

if TYPE_CHECKING:
    from raddino.encoders.preparation import Preparation
    from raddino.vit import VisionTransformer, VitConfig

UNRECORDED = ("", "other")
SHAREABLE = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0")
"""Licences (SPDX, lower case) under which anyone may pass the weights on."""

SUPERVISION = {
    "self-supervised": "self-supervised, from images alone",
    "text": "reports or captions",
    "labels": "class labels",
    "none": "none, the weights are not trained",
}


@dataclass(frozen=True)
class Interface:
    """How a stored encoder is called from outside.

    Attributes:
        library: ``library_name`` of the Hugging Face hub.
        usage: Python from an image to features, for a network of the given shape.
        channels: of the input, 3 is the grey image repeated.
        normalises: whether the stored network subtracts the mean and divides by the SD itself.
        pil: whether the library prepares PIL images by ``convert("RGB")``, which clips 16 bits at 255.
    """

    library: str
    usage: Callable[[VitConfig], str]
    channels: int = 3
    normalises: bool = False
    pil: bool = False


def pil_usage(imports: str, code: str) -> str:
    """Python of a library whose :attr:`Interface.pil` is true: imports, the opening of an image, then ``code``."""
    return f"""import numpy as np
{imports}

image = Image.open(file)
if image.mode.startswith("I"):  # 16 bits, which convert("RGB") would clip at 255
    image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
{code}"""


def _transformers_usage(shape: VitConfig) -> str:
    imports = "from PIL import Image\nfrom transformers import AutoImageProcessor, AutoModel"
    code = f"""model, processor = AutoModel.from_pretrained(folder), AutoImageProcessor.from_pretrained(folder)
tokens = model(**processor(image, return_tensors="pt")).last_hidden_state
cls, patches = tokens[:, 0], tokens[:, {1 + shape.num_register_tokens}:]"""
    return pil_usage(imports, code)


TRANSFORMERS = Interface("transformers", _transformers_usage, pil=True)


def model_card(
    name: str,
    model: VisionTransformer,
    preparation: Preparation,
    provenance: Provenance,
    interface: Interface = TRANSFORMERS,
    facts: dict[str, str] | None = None,
) -> str:
    """A README.md in the form of a Hugging Face model card.

    Args:
        name: of the encoder.
        model: for its shape and size.
        preparation: of the images, one channel.
        provenance: what is known of the weights; a field that is None is said to be not recorded.
        interface: how the file beside the card is called.
        facts: of the export, name to value; left out when None.
    """
    shape = model.config
    side = preparation.size[0] // shape.patch_size * shape.patch_size
    parameters = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    registers = f", {shape.num_register_tokens} registers" if shape.num_register_tokens else ""
    sections = [
        _front_matter(name, provenance, interface),
        f"# {name}\n\nA vision transformer in DINOv2's shape for grey chest X-rays, written by raddino "
        f"{raddino.__version__}: depth {shape.depth}, width {shape.embed_dim}, {shape.num_heads} heads, "
        f"patch {shape.patch_size}{registers}, {parameters:.1f} M parameters. It turns an image into a class token of "
        f"{shape.embed_dim} numbers and as many for each patch; it makes no diagnosis.",
        "## Sources\n\n" + _table(_sources(provenance)),
        "## Preparation\n\n" + _numbered(_steps(preparation, side, interface)),
        f"## Use\n\n```python\n{interface.usage(shape)}\n```",
        "## Licence\n\n" + sharing(provenance),
        "## Limits\n\n" + "\n".join(f"* {limit}" for limit in _limits(side, provenance)),
    ]
    if facts is not None:
        sections.append("## Export\n\n" + _table(facts))
    return "\n\n".join(sections) + "\n"


def sharing(provenance: Provenance) -> str:
    """Whether the weights may be passed on, in words."""
    licence = provenance.licence.strip()
    unrecorded = licence.lower() in UNRECORDED
    if provenance.gated:
        return (
            f"**Do not pass these weights on.** Their publisher asks for an agreement before the download "
            f"(licence: {'not recorded' if unrecorded else licence}); a copy in another format stays under it."
        )
    if unrecorded:
        return "**Do not pass these weights on**: no licence is recorded, ask whoever made them."
    if licence.lower() in SHAREABLE:
        return f"{licence}. The weights may be used and passed on under its terms."
    return (
        f"{licence}. **Do not pass these weights on** unless that licence allows it: it is none of those known to "
        "allow it to anyone, and a copy in another format stays under it."
    )


def _front_matter(name: str, provenance: Provenance, interface: Interface) -> str:
    licence = provenance.licence.strip()
    known = licence.lower() in SHAREABLE and not provenance.gated
    lines = [f"library_name: {interface.library}", f"license: {licence.lower() if known else 'other'}"]
    if not known and licence.lower() not in UNRECORDED:
        lines.append(f"license_name: {json.dumps(licence)}")
    lines += ["pipeline_tag: image-feature-extraction", "tags: [chest-x-ray, dinov2, raddino]"]
    return "\n".join(["---", *lines, f"model_name: {json.dumps(name)}", "---"])


def _sources(provenance: Provenance) -> dict[str, str]:
    drawn = {True: "all images", False: "no image", "mixed": "some images", None: "not recorded"}
    rows = {
        "Data sets whose images were seen": provenance.told_sources("not recorded", "none"),
        "Supervision": SUPERVISION.get(provenance.supervision, provenance.supervision),
        "Synthetic": drawn[provenance.all_synthetic],
    }
    if provenance.reference:
        rows["Said in"] = provenance.reference
    if provenance.corpora:
        rows["Corpora (fingerprint: splits)"] = "; ".join(
            f"`{fingerprint}`: {', '.join(splits)}" for fingerprint, splits in provenance.corpora.items()
        )
    if provenance.revision:
        rows["Revision"] = provenance.revision
    if provenance.sha256:
        rows["SHA-256 of the weights"] = f"`{provenance.sha256}`"
    if provenance.note:
        rows["Note"] = provenance.note
    return rows


def _steps(preparation: Preparation, side: int, interface: Interface) -> list[str]:
    resize, crop = preparation.resize, preparation.crop
    resized = f"its shorter side to {resize} px" if isinstance(resize, int) else f"to {resize[0]} x {resize[1]} px"
    kernel = "bicubic (a = -0.5)" if preparation.interpolation == "bicubic" else preparation.interpolation
    rounding = "in 8 bits" if interface.pil else "8-bit images in 8 bits, 16-bit ones in float32"
    rounding = "in float32" if preparation.float_resize else rounding
    mean, std = preparation.mean[0] / preparation.maximum, preparation.std[0] / preparation.maximum
    shape = f"(B, {interface.channels}, {side}, {side})"
    steps = [
        f"One grey image of {'8 bits' if interface.pil else '8 or 16 bits'}, air dark and bone light (DICOM "
        f"`MONOCHROME2`).{_sixteen(interface) if interface.pil else ''}",
        f"Resize {resized}, {kernel}, antialiased: {rounding}.",
    ]
    if crop is not None:
        odd = "one row or column more is cut at the end" if preparation.crop_start == "down" else "round half to even"
        steps.append(f"Cut out the central {crop} x {crop} px (where the border is odd, {odd}); fill with zeros.")
    if side != preparation.size[0]:
        steps.append(f"Keep the upper left {side} x {side} px, whole patches.")
    steps.append(
        "Divide by 255 to get [0, 1]."
        if interface.pil
        else "Divide by the largest value of the bit depth, 255 or 65535, to get [0, 1]."
    )
    if interface.normalises:
        return [
            *steps,
            f"Pass float32 {shape}. The network normalises (mean {mean:g}, SD {std:g}): do not do it again.",
        ]
    repeat = "Repeat the channel three times" if interface.channels == 3 else "Keep one channel"
    return [*steps, f"Subtract {mean:g}, divide by {std:g}.", f"{repeat}: float32 {shape}."]


def _sixteen(interface: Interface) -> str:
    own = " raddino itself reads 16 bits." if interface.library == "transformers" else ""
    return (
        f" Bring 16 bits to 8 first, as under Use: the preparation in {interface.library} calls PIL's "
        f'`convert("RGB")`, which clips them at 255 without a word.{own}'
    )


def _limits(side: int, provenance: Provenance) -> list[str]:
    limits = [
        "For research only; not a medical device, not for clinical decisions.",
        f"Meant for single grey chest radiographs at {side} x {side} px; other body parts, modalities and sizes "
        "are untested.",
        "This card claims no accuracy. Measure it on your own patients: `raddino evaluate`.",
        "Such features also carry sex, age, view and device; a classifier on top of them can lean on these.",
    ]
    if not provenance.all_known:
        limits.append("What was seen in pre-training is not all recorded: test images may have been among it.")
    if provenance.all_sources:
        limits.append("Test images from the data sets above may have been seen in pre-training.")
    if provenance.all_synthetic is True:
        limits.append("Only synthetic images were seen; nothing follows from that for real ones.")
    if provenance.supervision == "none":
        limits.append("The weights are not trained: a floor for comparisons, of no other use.")
    return limits


def _table(rows: dict[str, str]) -> str:
    cells = {key: value.replace("|", "\\|").replace("\n", " ") for key, value in rows.items()}
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in cells.items())])


def _numbered(steps: list[str]) -> str:
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))
