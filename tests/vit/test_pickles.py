"""Pickles that torch's safe loader would not survive are refused at once; real ones pass."""

import pickle
import random
import struct
import time
import zipfile
from pickle import UnpicklingError

import pytest
import torch

from raddino.errors import RaddinoError
from raddino.vit.pickles import LARGEST, check_pickles
from raddino.vit.weights import read_weights

HEADER = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
BOMBS = {
    "tuples that share": b"\x80\x02})q\x00" + 60 * b"h\x00h\x00\x86q\x00" + b"K\x01s.",
    "deep tuples": b"\x80\x02})" + 500_000 * b"\x85" + b"K\x01s.",
    "deep sizes": b"\x80\x02}ctorch\nSize\nq\x00)" + 500_000 * b"h\x00)R\x85" + b"K\x01s.",
    "sharing lists": b"\x80\x02]q\x00" + 60 * b"](h\x00h\x00eq\x00" + b".",
    "opcodes": b"\x80\x02" + (LARGEST + 9) * b"N" + b".",
    "codec": b"\x80\x02c_codecs\nencode\nX"
    + struct.pack("<I", 6)
    + 3 * b"\xc3\xa9"
    + b"X\x08\x00\x00\x00Punycode\x86R.",
}


def _save(path, content: bytes, new: bool, packed: int = zipfile.ZIP_STORED) -> None:
    if not new:
        path.write_bytes(b"".join(pickle.dumps(part, 2) for part in HEADER) + content + pickle.dumps([], 2))
        return
    with zipfile.ZipFile(path, "w", packed) as archive:
        for name, part in {"data.pkl": content, "version": b"3\n", "byteorder": b"little"}.items():
            archive.writestr(f"archive/{name}", part)


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_at_once(tmp_path, bomb, new):
    _save(tmp_path / "w.pth", BOMBS[bomb], new)
    started = time.monotonic()
    with pytest.raises(RaddinoError, match="refused by the safe loader"):
        read_weights(tmp_path / "w.pth")
    assert time.monotonic() - started < 30


def test_packed_members_are_refused(tmp_path):
    _save(tmp_path / "w.pth", b"\x80\x02}." + bytes(10**6), True, zipfile.ZIP_DEFLATED)
    with pytest.raises(UnpicklingError, match="packed"):
        check_pickles(tmp_path / "w.pth")


@pytest.mark.parametrize("new", [True, False])
def test_training_states_pass(tmp_path, new):
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    wide = {f"blocks.{number}": torch.ones(1) for number in range(2500)}
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": random.getstate(), "wide": wide}
    torch.save(state, tmp_path / "w.pth", _use_new_zipfile_serialization=new)
    assert len(read_weights(tmp_path / "w.pth")["wide"]) == 2500
