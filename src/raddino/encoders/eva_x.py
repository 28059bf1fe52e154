"""EVA-X (Yao et al., npj Digital Medicine 2025): EVA-02 vision transformers, masked feature modelling on X-rays."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn

from raddino.encoders.base import ENCODERS, Encoder, Family, Provenance
from raddino.encoders.network import NetworkEncoder, fill, grid_of, optional, read_state
from raddino.encoders.preparation import Preparation
from raddino.encoders.weights import find_weights

HUB = "MapleF/eva_x"
GRID = (14, 14)
PREPARATION = Preparation(resize=256, crop=224, mean=(0.49185243,) * 3, std=(0.28509309,) * 3, backend="pil")
KNOWN = Provenance(
    sources=["nih", "chexpert", "mimic-cxr"],
    supervision="self-supervised",
    licence="MIT",
    synthetic=False,
    reference="Yao et al., npj Digital Medicine 2025, doi 10.1038/s41746-025-02032-z, arXiv 2405.05237",
    note="its masked targets are features of MGCA, which was trained with MIMIC-CXR reports",
)
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 192, "num_heads": 3},
    "small": {"embed_dim": 384, "num_heads": 6},
    "base": {"embed_dim": 768, "num_heads": 12, "qkv_fused": False, "scale_mlp": True},
}
TO_TIMM = {
    r"mlp\.ffn_ln\.": "mlp.norm.",
    r"mlp\.w12\.": "mlp.fc1.",
    r"mlp\.w1\.": "mlp.fc1_g.",
    r"mlp\.w2\.": "mlp.fc1_x.",
    r"mlp\.w3\.": "mlp.fc2.",
}
UNUSED = re.compile(r"mask_token|lm_head\.|.*\brope\.")
"""The head of pre-training, and rotary tables that follow from the grid."""


def network(size: str, **changed: Any) -> Any:
    """The untrained network of a size, in timm's EVA architecture and names."""
    eva = optional(f"eva-x-{size}", "timm.models.eva")
    settings = {
        "img_size": 224, "patch_size": 16, "depth": 12, "mlp_ratio": 4 * 2 / 3, "swiglu_mlp": True,
        "use_rot_pos_emb": True, "ref_feat_shape": GRID, "num_classes": 0, "use_fc_norm": False,
    }  # fmt: skip
    return eva.Eva(**(settings | SIZES[size] | changed))


def to_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Published names (those of EVA-02's own code) to timm's."""
    renamed = {}
    split = "blocks.0.attn.q_proj.weight" in state
    for name, tensor in state.items():
        if UNUSED.match(name):
            continue
        for old, new in TO_TIMM.items():
            name = re.sub(old, new, name)
        if split:
            name = re.sub(r"attn\.([qv])_bias$", r"attn.\1_proj.bias", name)
        renamed[name] = tensor
    return renamed


def load(size: str, place: str | None, device: str) -> Encoder:
    """Read ``eva_x_SIZE_patch16_merged520k_mim.pt``.

    As the publisher's code does it, the embedding is the norm of the mean patch token; patches are normed one by one.

    Raises:
        RaddinoError: no weights there, or not those of this size.
    """
    name, published = f"eva-x-{size}", f"eva_x_{size}_patch16_merged520k_mim.pt"
    weights = find_weights(name, place, HUB, (published,))
    file = weights.file(published, "model.safetensors")
    state = to_timm(read_state(name, file))
    model = network(size)
    fill(name, model, state)
    norm, model.norm = model.norm, nn.Identity()
    whole = nn.ModuleDict({"model": model, "norm": norm})

    def forward(batch: Tensor) -> tuple[Tensor, Tensor]:
        patches = model.forward_features(batch)[:, 1:]
        return norm(patches.mean(1)), grid_of(norm(patches), GRID)

    return NetworkEncoder(
        name, whole, forward, PREPARATION,
        dim=SIZES[size]["embed_dim"], grid=GRID, provenance=weights.record(KNOWN, file), device=device,
    )  # fmt: skip


def _register(size: str) -> None:
    ENCODERS.register(f"eva-x-{size}")(
        Family(
            lambda place, device: load(size, place, device),
            f"EVA-X: EVA-02 ViT-{size}/16, masked modelling on 520,000 X-rays",
            KNOWN,
            home=f"https://huggingface.co/{HUB}",
            extra="baselines",
            dim=SIZES[size]["embed_dim"],
            side=224,
        )
    )


for _size in SIZES:
    _register(_size)
