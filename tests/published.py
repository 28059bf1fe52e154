"""Random weights in a published format, and what every encoder that reads such a file has to refuse."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from raddino.encoders.load import load_encoder
from raddino.errors import RaddinoError


def radiographs(seed: int = 0) -> list[np.ndarray]:
    """Smooth noise of several aspect ratios, larger and smaller than any input."""
    rng = np.random.default_rng(seed)
    images = []
    for height, width in ((300, 300), (260, 397), (611, 337), (90, 150)):
        coarse = torch.from_numpy(rng.uniform(20, 230, (1, 1, 9, 9)))
        smooth = nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0, 0].numpy()
        images.append((smooth + rng.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8))
    return images


def shaken(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network in evaluation with no parameter or statistic at a value that hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape, generator=generator) + 0.5)
    return network.eval()


def check_refusals(
    load: Callable[[str], object], encoder, good: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong batches, and files that are truncated, of another network, without tensors, or hiding code."""
    batch = encoder.preprocess(radiographs()[:1])
    for wrong in (batch[:, 1:], batch.repeat(1, 2, 1, 1), batch[0], batch * 40 + 40, batch / 0, batch[..., :-32]):
        with pytest.raises(RaddinoError):
            encoder.encode(wrong)
    for image in (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.float32)):
        with pytest.raises(RaddinoError, match="takes grey"):
            encoder.preprocess([image])
    bad = folder / f"bad{good.suffix}"
    content = good.read_bytes()
    bad.write_bytes(content[: len(content) // 2])
    with pytest.raises(RaddinoError, match=r"not a readable weights file|refused by the safe loader"):
        load(str(bad))
    torch.save({"model": nn.Linear(3, 3).state_dict()}, bad)
    with pytest.raises(RaddinoError, match="weights of another network"):
        load(str(bad))
    torch.save({"epoch": 3}, bad)
    with pytest.raises(RaddinoError, match="no named tensors"):
        load(str(bad))
    bad.write_bytes(pickle.dumps(_Code(), protocol=2))
    with pytest.raises(RaddinoError, match=r"refused|not a readable"):
        load(str(bad))
    torch.save({"model": _Code()}, bad)
    with pytest.raises(RaddinoError, match="refused"):
        load(str(bad))
    assert not Path("ran_code").exists()
    monkeypatch.setenv("RADDINO_WEIGHTS", str(folder / "nothing"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RaddinoError, match="there is no file"):
        load(str(folder / "absent" / "weights.pt"))


def check_missing(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """Without weights anywhere, one line says where they are, their licence and where to put them."""
    monkeypatch.setenv("RADDINO_WEIGHTS", str(folder / "nothing"))
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr("huggingface_hub.snapshot_download", _offline)
    monkeypatch.setattr("torch.hub.download_url_to_file", _offline)
    with pytest.raises(RaddinoError) as caught:
        load_encoder(name, device="cpu")
    told = str(caught.value)
    assert home in told
    assert "licence" in told
    assert f"{name}:PATH" in told
    assert "\n" not in told


def _offline(*_, **__):
    raise OSError("no network")


class _Code:
    def __reduce__(self):
        return open, ("ran_code", "w")
