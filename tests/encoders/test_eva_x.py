"""EVA-X: files in EVA-02's own names, against timm's EVA filled by timm's own converter."""

import pytest
import torch
from PIL import Image
from torchvision import transforms

from published import check_missing, check_refusals, radiographs, shaken
from raddino.encoders.load import load_encoder

eva = pytest.importorskip("timm.models.eva")
SIZES = {
    "tiny": {"embed_dim": 192, "num_heads": 3},
    "base": {"embed_dim": 768, "num_heads": 12, "qkv_fused": False, "scale_mlp": True},
}
MEAN, STD = (0.49185243,) * 3, (0.28509309,) * 3


def original(size: str):
    return eva.Eva(
        img_size=224, patch_size=16, depth=12, mlp_ratio=4 * 2 / 3, swiglu_mlp=True, use_rot_pos_emb=True,
        ref_feat_shape=(14, 14), num_classes=0, global_pool="avg", **SIZES[size],
    )  # fmt: skip


def in_published_names(network, size: str) -> dict[str, torch.Tensor]:
    """What masked pre-training with EVA-02's code saves: its names, its head, its rotary tables."""
    names = {"mlp.fc1_g.": "mlp.w1.", "mlp.fc1_x.": "mlp.w2.", "mlp.norm.": "mlp.ffn_ln.", "mlp.fc2.": "mlp.w3."}
    names |= {"mlp.fc1.": "mlp.w12.", "fc_norm.": "norm.", "q_proj.bias": "q_bias", "v_proj.bias": "v_bias"}
    state = {}
    for name, tensor in network.state_dict().items():
        for new, old in names.items():
            name = name.replace(new, old)
        state[name] = tensor
    width = SIZES[size]["embed_dim"]
    extra = {"mask_token": torch.zeros(1, 1, width), "lm_head.weight": torch.zeros(5, width)}
    extra |= {"lm_head.bias": torch.zeros(5), "rope.freqs_cos": torch.ones(196, 64)}
    return state | extra | {"blocks.0.attn.rope.freqs_sin": torch.ones(196, 64)}


@pytest.fixture(scope="module", params=["tiny", "base"])
def published(request, tmp_path_factory):
    torch.manual_seed(0)
    size = request.param
    network = shaken(original(size))
    file = tmp_path_factory.mktemp("eva") / f"eva_x_{size}_patch16_merged520k_mim.pt"
    torch.save({"module": in_published_names(network, size)}, file)
    return size, network, file


def test_same_features_as_the_original(published):
    size, network, file = published
    converted = eva.checkpoint_filter_fn(torch.load(file, weights_only=True), network)
    assert not network.load_state_dict(converted, strict=False).missing_keys
    encoder = load_encoder(f"eva-x-{size}:{file}", device="cpu")
    theirs = transforms.Compose(
        [
            transforms.Resize(256, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    images = radiographs()
    batch = torch.stack([theirs(Image.fromarray(image).convert("RGB")) for image in images])
    torch.testing.assert_close(encoder.preprocess(images), batch, rtol=0, atol=1e-5)
    batch = batch[1:3]
    ours = encoder.encode(encoder.preprocess(images[1:3]))
    with torch.no_grad():
        tokens, pooled = network.fc_norm(network.forward_features(batch)), network(batch)
    torch.testing.assert_close(ours.cls, pooled, rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.patches.flatten(1, 2), tokens[:, 1:], rtol=0, atol=1e-4)
    assert encoder.grid == (14, 14)
    assert encoder.dim == ours.cls.shape[1] == SIZES[size]["embed_dim"]


def test_what_is_not_this_size_is_refused(published, tmp_path, monkeypatch):
    size, _, file = published
    if size != "tiny":
        with pytest.raises(Exception, match="weights of another network"):
            load_encoder(f"eva-x-tiny:{file}", device="cpu")
        return
    encoder = load_encoder(f"eva-x-tiny:{file}", device="cpu")
    check_refusals(lambda place: load_encoder(f"eva-x-tiny:{place}"), encoder, file, tmp_path, monkeypatch)
    check_missing("eva-x-small", tmp_path, monkeypatch, "huggingface.co/MapleF/eva_x")
