"""Random weights in the formats in which the families publish theirs, to try the machinery without a hub."""

from __future__ import annotations

import json
import string
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from raddino.encoders import biomedclip, biovil_t, chexzero, eva_x
from raddino.encoders.huggingface import quiet
from raddino.encoders.network import optional
from raddino.encoders.weights import RANDOM_MARKER
from raddino.errors import RaddinoError
from raddino.files import draft_folder, write_text

LAYERS = 2
TIMM_MODEL = "vit_tiny_patch16_224"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_random_weights(folder: Path, seed: int = 0, names: Iterable[str] | None = None) -> dict[str, str]:
    """Write random weights of every family, beside a marker that says so, see :data:`RANDOM_MARKER`.

    Where the published format carries a config the network is that of the family with two layers, so that width,
    patches and input are its own; else it is the published architecture. Large ones are in half precision.

    Args:
        folder: gets one folder per family, which is replaced.
        seed: of the weights; each family draws its own from it.
        names: of :data:`WRITERS`; all by default.

    Returns:
        Name to show, ending in ``-random``, to the spec that :func:`raddino.encoders.load.load_encoder` takes.

    Raises:
        RaddinoError: an unknown name, or a library that is not installed.
    """
    specs = {}
    for name in WRITERS if names is None else names:
        if name not in WRITERS:
            raise RaddinoError(f"no random weights of {name!r}; known: {', '.join(WRITERS)}")
        place = Path(folder) / name
        with draft_folder(place) as draft, torch.random.fork_rng(devices=[]), quiet():
            write_text(draft / RANDOM_MARKER, json.dumps({"family": name, "seed": seed}) + "\n")
            torch.manual_seed(zlib.crc32(f"{name} {seed}".encode()))
            WRITERS[name](draft)
        specs[f"{name}-random"] = f"timm:{TIMM_MODEL}@{place}" if name == "timm" else f"{name}:{place}"
    return specs


def _dinov2(place: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=768, num_attention_heads=12, num_hidden_layers=LAYERS, image_size=518)
    Dinov2Model(config).save_pretrained(place)


def _dinov3(place: Path) -> None:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    config = DINOv3ViTConfig(
        hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=LAYERS, num_register_tokens=4
    )
    DINOv3ViTModel(config).save_pretrained(place)


def _clip(side: int) -> Callable[[Path], None]:
    def write(place: Path) -> None:
        from transformers import CLIPConfig, CLIPModel

        vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "patch_size": 14}
        text = {"vocab_size": 64, "hidden_size": 768, "num_attention_heads": 12, "bos_token_id": 0, "eos_token_id": 1}
        depth = {"num_hidden_layers": LAYERS}
        config = CLIPConfig(
            text_config=text | depth, vision_config=vision | depth | {"image_size": side}, projection_dim=768
        )
        CLIPModel(config).save_pretrained(place)

    return write


def _siglip(place: Path) -> None:
    from transformers import SiglipConfig, SiglipModel

    depth = {"num_hidden_layers": LAYERS}
    SiglipModel(SiglipConfig(text_config=depth | {"vocab_size": 64}, vision_config=depth)).save_pretrained(place)


def _biomedclip(place: Path) -> None:
    from transformers import BertConfig, BertModel, BertTokenizer

    timm = optional(biomedclip.NAME, "timm")
    shape = biomedclip.Shape()
    letters = string.ascii_lowercase + string.digits + string.punctuation
    words = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    (place / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    BertTokenizer(str(place / "vocab.txt"), model_max_length=shape.context_length).save_pretrained(place)
    bert = BertModel(BertConfig(vocab_size=len(words), num_hidden_layers=LAYERS), add_pooling_layer=False)
    width, middle = bert.config.hidden_size, (bert.config.hidden_size + shape.embed_dim) // 2
    trunk = timm.create_model(shape.vision, num_classes=0)
    state = _under("visual.trunk.", trunk) | _under("text.transformer.", bert)
    state |= _under("visual.head.proj.", nn.Linear(trunk.num_features, shape.embed_dim, bias=False))
    state |= _under("text.proj.0.", nn.Linear(width, middle, bias=False))
    state |= _under("text.proj.2.", nn.Linear(middle, shape.embed_dim, bias=False))
    vision = {"timm_model_name": shape.vision, "timm_pool": "", "timm_proj": "linear", "image_size": shape.image_size}
    text = {"context_length": shape.context_length, "hf_proj_type": "mlp"}
    config = {
        "model_cfg": {"embed_dim": shape.embed_dim, "vision_cfg": vision, "text_cfg": text},
        "preprocess_cfg": {"mean": shape.mean, "std": shape.std},
    }
    (place / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    torch.save(_half(state | {"logit_scale": torch.tensor(4.4)}), place / biomedclip.FILES[0])


def _biovil_t(place: Path) -> None:
    torch.save(biovil_t.BioViLT().state_dict(), place / biovil_t.FILE)


def _mrm(place: Path) -> None:
    timm = optional("mrm", "timm")
    network = timm.create_model("vit_base_patch16_224", num_classes=0, global_pool="avg", fc_norm=False)
    torch.save({"model": _half(network.state_dict())}, place / "MRM.pth")


def _chexzero(place: Path) -> None:
    open_clip = optional(chexzero.NAME, "open_clip")
    network = open_clip.CLIP(**open_clip.get_model_config(chexzero.ARCHITECTURE))
    torch.save(_half(network.state_dict()), place / chexzero.FILES[0])


def _eva_x(place: Path) -> None:
    published = {"mlp.fc1.": "mlp.w12.", "mlp.fc2.": "mlp.w3."}
    state = {}
    for name, tensor in eva_x.network("tiny").state_dict().items():
        for new, old in published.items():
            name = name.replace(new, old)
        state[name] = tensor
    torch.save({"module": state}, place / "eva_x_tiny_patch16_merged520k_mim.pt")


def _densenet(place: Path) -> None:
    from torchvision.models import densenet121

    network: Any = densenet121(num_classes=18)
    network.features.conv0 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    torch.save(network.state_dict(), place / "model.pt")


def _timm(place: Path) -> None:
    from safetensors.torch import save_file

    network = optional("timm", "timm").create_model(TIMM_MODEL)
    save_file(network.state_dict(), place / "model.safetensors")


def _resnet50(place: Path) -> None:
    from torchvision.models import resnet50

    torch.save(resnet50().state_dict(), place / "resnet50-11ad3fa6.pth")


def _under(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in network.state_dict().items()}


def _half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


WRITERS: dict[str, Callable[[Path], None]] = {
    "rad-dino": _dinov2,
    "rad-dino-maira-2": _dinov2,
    "dinov2-base": _dinov2,
    "dinov3-base": _dinov3,
    "clip-vit-l-14": _clip(224),
    "clip-vit-l-14-336": _clip(336),
    "siglip-base": _siglip,
    "biomedclip": _biomedclip,
    "biovil-t": _biovil_t,
    "mrm": _mrm,
    "chexzero": _chexzero,
    "eva-x-tiny": _eva_x,
    "densenet121-res224-all": _densenet,
    "timm": _timm,
    "resnet50": _resnet50,
}
"""Family to what writes its files into a folder."""
