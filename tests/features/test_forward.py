"""From an encoder to features in host memory: which precision, which order, which values are refused."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from features.embed_job import Means
from raddino.encoders.base import Features
from raddino.errors import ConfigError, RaddinoError
from raddino.features.forward import encode_all, feature_key, make_encode, resolve_precision

HALF_MAX = float(np.finfo(np.float16).max)


def encoder(**fields) -> SimpleNamespace:
    return SimpleNamespace(**{"name": "fake", "fingerprint": "f-1", "dim": 2, "grid": (1, 2)} | fields)


def features(value: float = 1.0, n: int = 3) -> Features:
    cls = torch.arange(2.0 * n).view(n, 2)
    return Features(cls, torch.stack([cls, cls * 0 + value], 1).view(n, 1, 2, 2))


def run(found: Features, keep_patches: bool = True, rows=(7, 8, 9), **fields):
    batches = [(np.array(rows), torch.zeros(len(rows)))]
    return next(encode_all(encoder(**fields), lambda images: found, batches, keep_patches))


@pytest.mark.parametrize(
    ("asked", "device", "bf16", "precision"),
    [
        ("fp32", "cpu", True, "fp32"),
        ("bf16", "cpu", False, "bf16"),
        ("auto", "cpu", True, "fp32"),
        ("auto", "cuda", True, "bf16"),
        ("auto", "cuda", False, "fp32"),
        ("bf16", "cuda", False, "bf16"),
    ],
)
def test_precision_of_each_machine(monkeypatch, asked, device, bf16, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    assert resolve_precision(asked, encoder(device=device)) == precision
    assert resolve_precision("auto", encoder()) == "fp32", "without a network of its own it is on the CPU"


def test_another_precision_is_refused():
    with pytest.raises(ConfigError, match="fp32, bf16 or auto, got 'fp16'"):
        resolve_precision("fp16", encoder())


def test_only_bf16_has_a_key_of_its_own():
    assert feature_key(encoder(), "fp32") == "f-1"
    assert feature_key(encoder(), "bf16") == "f-1-bf16"


def test_a_way_of_its_own_is_asked_with_type_and_compilation():
    asked = []

    def fast_encode(dtype, compile):
        asked.append((dtype, compile))
        return lambda batch: batch + 1

    own = encoder(fast_encode=fast_encode)
    for precision in ("fp32", "bf16"):
        for compile in (False, True):
            assert make_encode(own, precision, compile)(1) == 2
    assert asked == [(torch.float32, False), (torch.float32, True), (torch.bfloat16, False), (torch.bfloat16, True)]


def test_without_bf16_and_compilation_it_is_encode_itself():
    means = Means()
    assert make_encode(means, "fp32", False) == means.encode


def test_each_batch_is_given_out_when_the_next_is_on_its_way():
    events = []

    def encode(images):
        events.append(f"encode {int(images[0])}")
        return features(n=1)

    batches = [(np.array([n]), torch.full((1,), n)) for n in range(3)]
    for found in encode_all(encoder(), encode, iter(batches), keep_patches=False):
        events.append(f"given {found.rows[0]}")
    assert events == ["encode 0", "encode 1", "given 0", "encode 2", "given 1", "given 2"]
    assert list(encode_all(encoder(), encode, [], keep_patches=False)) == []


def test_types_and_means():
    found = run(Features(features().cls.double(), features(4.0).patches.double()))
    assert (found.cls.dtype, found.mean_patch.dtype, found.patches.dtype) == (np.float32, np.float32, np.float16)
    np.testing.assert_array_equal(found.rows, [7, 8, 9])
    np.testing.assert_array_equal(found.cls, [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(found.mean_patch, [[2, 2.5], [3, 3.5], [4, 4.5]])
    np.testing.assert_array_equal(found.patches[:, 0, 0], found.cls)
    assert run(features(), keep_patches=False).patches is None
    assert run(features(), keep_patches=False).mean_patch is not None
    plain = run(Features(features().cls, None), grid=None)
    assert plain.patches is plain.mean_patch is None


@pytest.mark.parametrize("sign", [1, -1])
def test_half_precision_ends_at_its_largest_number(sign):
    assert run(features(sign * HALF_MAX)).patches[0, 0, 1, 0] == sign * HALF_MAX
    with pytest.raises(RaddinoError, match="beyond half precision"):
        run(features(sign * (HALF_MAX + 1)))
    assert run(features(sign * (HALF_MAX + 1)), keep_patches=False).patches is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Features(torch.ones(2, 2), features().patches), r"cls of shape \(2, 2\); it promised \(3, 2\)"),
        (Features(torch.ones(3, 3), features().patches), r"cls of shape \(3, 3\)"),
        (Features(torch.ones(3, 2), features(n=4).patches), r"patches of shape \(4, 1, 2, 2\)"),
        (Features(torch.ones(3, 2), features().patches.transpose(1, 2)), r"patches of shape \(3, 2, 1, 2\)"),
        (Features(torch.ones(3, 2), None), "patches of shape None"),
        (Features(torch.full((3, 2), torch.inf), features().patches), "'fake' returned cls that hold NaN"),
        (Features(torch.ones(3, 2), features(torch.nan).patches), "'fake' returned patches that hold NaN"),
    ],
)
def test_what_would_spoil_numbers_is_refused(found, words):
    with pytest.raises(RaddinoError, match=words):
        run(found)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("part", ["cls", "patches"])
def test_one_value_of_one_image_is_enough(part, value):
    found = features()
    getattr(found, part).view(3, -1)[1, 0] = value
    with pytest.raises(RaddinoError, match=f"{part} that hold NaN or infinity"):
        run(found, keep_patches=False)


def test_a_copy_from_a_gpu_is_waited_for_before_it_is_read(monkeypatch):
    events = []

    class Event:
        def record(self):
            events.append("copied")

        def synchronize(self):
            events.append("waited")

    monkeypatch.setattr(torch.cuda, "Event", Event)
    run(features(), device="cuda")
    assert events == ["copied", "waited"]


def test_in_bf16_a_foreign_encode_runs_under_autocast_and_only_then():
    seen = []

    def encode(batch):
        seen.append(torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"))
        return batch

    foreign = encoder(encode=encode, device="cpu")
    assert make_encode(foreign, "bf16", False)("a batch") == "a batch"
    assert make_encode(foreign, "fp32", False)("a batch") == "a batch"
    assert seen == [torch.bfloat16, False]
