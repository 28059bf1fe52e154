"""Every way to name initial weights gives the network that its own library runs, and asks where none is named."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Dinov2Config, Dinov2Model

from raddino.config import load_config, validate
from raddino.encoders.export import export
from raddino.encoders.load import load_encoder
from raddino.encoders.ours import VitEncoder
from raddino.errors import ConfigError, RaddinoError
from raddino.training.pretrain import PretrainConfig, pretrain
from raddino.vit.weights import from_huggingface
from transformers_folders import close, prepared, publish, radiograph

SIDE = 28
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
RAD_DINO = ([0.5307] * 3, [0.2583] * 3)


@pytest.fixture(scope="module")
def places(corpus, tiny, tmp_path_factory):
    """One network in every form, by the statistics that it is published with, and what Transformers makes of it."""
    root, expected = tmp_path_factory.mktemp("places"), {}
    image = radiograph((SIDE, SIDE))
    for name, (mean, std) in {"dinov2": IMAGENET, "rad-dino": RAD_DINO}.items():
        folder, shape = root / name, {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1}
        steps = {
            "crop_size": {"height": SIDE, "width": SIDE}, "do_center_crop": True, "do_convert_rgb": True,
            "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": mean, "image_std": std,
            "image_processor_type": "BitImageProcessor", "resample": 3, "rescale_factor": 1 / 255,
            "size": {"shortest_edge": SIDE},
        }  # fmt: skip
        torch.manual_seed(0)
        model = publish(folder, Dinov2Model(Dinov2Config(**shape, image_size=SIDE, patch_size=14)), steps)
        with torch.no_grad():
            expected[name] = model(prepared(folder, image)).last_hidden_state
        state = from_huggingface(model.config.to_dict(), load_file(folder / "model.safetensors")).state
        state = {key: tensor.contiguous() for key, tensor in state.items()}
        torch.save(state, root / f"{name}.pth")
        torch.save(
            {"teacher": {f"backbone.{key}": tensor for key, tensor in state.items()}}, root / f"{name}-state.pth"
        )
        save_file(state, root / f"{name}.safetensors")
        save_file(state, folder / "backbone_compatible.safetensors")
        for format in ("official", "huggingface"):
            export(folder, root / f"{name}-{format}", format)
        train(corpus, tiny, root / f"{name}-run", str(folder), mean=0.3, std=0.4)
    return root, expected, image


def train(corpus, tiny, out, init, mean=0.5307, std=0.2583):
    views = {"global_size": SIDE, "local_size": 14, "local_views": 1, "mean": mean, "std": std}
    values = tiny | {"init": init, "steps": 1, "vit": {"image_size": SIDE, "patch_size": 14}, "views": views}
    pretrain(corpus, out, validate(PretrainConfig, values), device="cpu", workers=0)
    return out / "initial"


def agrees(encoder: VitEncoder, image: np.ndarray, states: torch.Tensor) -> None:
    features = encoder.encode(encoder.preprocess([image]))
    close(features.cls, states[:, 0], 1e-5)
    close(features.patches.flatten(1, 2), states[:, 1:], 1e-5)


INIT = [
    ("dinov2", "{root}/dinov2"),
    ("dinov2", "{root}/dinov2.pth"),
    ("dinov2", "{root}/dinov2-state.pth"),
    ("dinov2", "{root}/dinov2.safetensors"),
    ("dinov2", "{root}/dinov2-official/model.safetensors"),
    ("dinov2", "{root}/dinov2-huggingface"),
    ("dinov2", "{root}/dinov2-run/initial"),
    ("dinov2", "dinov2-base:{root}/dinov2"),
    ("rad-dino", "{root}/rad-dino"),
    ("rad-dino", "{root}/rad-dino/backbone_compatible.safetensors"),
    ("rad-dino", "{root}/rad-dino-official/model.safetensors"),
    ("rad-dino", "{root}/rad-dino-huggingface"),
    ("rad-dino", "rad-dino:{root}/rad-dino"),
]


@pytest.mark.parametrize(("name", "init"), INIT)
def test_training_starts_from_what_the_weights_own_library_computes(places, corpus, tiny, tmp_path, name, init):
    root, expected, image = places
    initial = train(corpus, tiny, tmp_path / "run", init.format(root=root))
    agrees(VitEncoder.load(initial, "cpu"), image, expected[name])


def test_training_starts_from_a_file_under_a_family_s_name(places, corpus, tiny, tmp_path):
    """With that family's statistics, though the file alone would be taken for DINOv2's."""
    root, expected, image = places
    plain = train(corpus, tiny, tmp_path / "plain", str(root / "rad-dino.pth"))
    named = train(corpus, tiny, tmp_path / "named", f"rad-dino:{root}/rad-dino.pth")
    agrees(VitEncoder.load(named, "cpu"), image, expected["rad-dino"])
    with pytest.raises(AssertionError):
        agrees(VitEncoder.load(plain, "cpu"), image, expected["rad-dino"])


def test_training_starts_from_a_checkpoint_under_other_statistics(places, corpus, tiny, tmp_path):
    root, _, image = places
    run = root / "dinov2-run"
    trained = load_encoder(str(run / "encoder"), "cpu")
    features = trained.encode(trained.preprocess([image]))
    states = torch.cat([features.cls[:, None], features.patches.flatten(1, 2)], dim=1)
    agrees(VitEncoder.load(train(corpus, tiny, tmp_path / "run", f"{run}/checkpoints/step_1"), "cpu"), image, states)


SPECS = [
    ("dinov2", "dinov2-base:{root}/dinov2"),
    ("dinov2", "{root}/dinov2"),
    ("dinov2", "{root}/dinov2-huggingface"),
    ("rad-dino", "rad-dino:{root}/rad-dino"),
    ("rad-dino", "{root}/rad-dino-huggingface"),
]
FILES = [
    ("dinov2", "dinov2-base:{root}/dinov2.pth"),
    ("dinov2", "dinov2-base:{root}/dinov2-state.pth"),
    ("dinov2", "rad-dino:{root}/dinov2-official/model.safetensors"),
    ("rad-dino", "rad-dino:{root}/rad-dino/backbone_compatible.safetensors"),
    ("rad-dino", "dinov2-base:{root}/rad-dino-official/model.safetensors"),
]


@pytest.mark.parametrize(("name", "spec"), SPECS)
def test_an_encoder_computes_what_the_weights_own_library_does(places, name, spec):
    root, expected, image = places
    agrees(load_encoder(spec.format(root=root), "cpu"), image, expected[name])


@pytest.mark.parametrize(("name", "spec"), FILES)
def test_a_file_s_encoder_normalises_as_the_file_says(places, name, spec):
    """Its steps are the family's, so that the network is given the prepared image itself."""
    root, expected, image = places
    encoder = load_encoder(spec.format(root=root), "cpu")
    batch = (torch.from_numpy(image)[None, None] / 255 - encoder.mean) / encoder.std
    features = encoder.encode(batch)
    close(features.cls, expected[name][:, 0], 1e-5)


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ("hog", "only encoders in DINOv2's shape"),
        ("{root}/grey.pth", "do not say how their input is normalised"),
        ("{root}/unsaid", "do not say how their input is normalised"),
        ("{root}/nan.pth", r"nan\.pth: norm\.bias holds numbers that are not finite"),
        ("{root}/tampered", "not the file that raddino.json describes"),
        ("dinov2-bas", "no weights at dinov2-bas"),
        ("dinov2-base:{root}/absent", "there is no file or folder"),
    ],
)
def test_what_training_cannot_start_from_is_one_line(places, corpus, tiny, tmp_path, init, words):
    root, _, _ = places
    state = torch.load(root / "dinov2.pth")
    torch.save(state | {"norm.bias": state["norm.bias"] * float("nan")}, root / "nan.pth")
    torch.save(state | {"patch_embed.proj.weight": state["patch_embed.proj.weight"][:, :1].clone()}, root / "grey.pth")
    for name, source in (("unsaid", "dinov2"), ("tampered", "dinov2-huggingface")):
        (root / name).mkdir(exist_ok=True)
        for file in ("config.json", "model.safetensors", *(["raddino.json"] if name == "tampered" else [])):
            (root / name / file).write_bytes((root / source / file).read_bytes())
    save_file(
        load_file(root / "rad-dino-huggingface/model.safetensors") | {"mask": torch.ones(1)},
        root / "tampered/model.safetensors",
    )
    with pytest.raises(RaddinoError, match=words) as refused:
        train(corpus, tiny, tmp_path / "run", init.format(root=root))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run/config.yaml").exists()


def test_a_preset_that_continues_from_trained_weights_asks_for_them(corpus, tmp_path):
    for preset, asks in (("rad-dino-vit-b-518", True), ("small-batch", False), ("dinov2-vit-b", False)):
        assert (load_config(PretrainConfig, preset).init == "ask") == asks
    with pytest.raises(ConfigError, match=r"give --init dinov2-base, .* or --init none for random weights") as asked:
        pretrain(corpus, tmp_path / "run", load_config(PretrainConfig, "rad-dino-vit-b-518"), device="cpu")
    assert "\n" not in str(asked.value)
    assert not (tmp_path / "run").exists()
    assert load_config(PretrainConfig, "rad-dino-vit-b-518", ["init=none"]).init is None
