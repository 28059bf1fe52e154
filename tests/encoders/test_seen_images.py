"""Which images an encoder was trained on: recognised by whoever has them, read out by nobody."""

import hashlib
import hmac

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from raddino.encoders.seen_images import FILE, SALT, SeenImages
from raddino.errors import RaddinoError
from raddino.files import SEAL, UNSEALED, seal


def word(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def table(*names, source=True) -> pd.DataFrame:
    columns = {"sha256": [word(f"packed {name}") for name in names]}
    if source:
        columns["sha256_source"] = [word(f"file {name}") for name in names]
    return pd.DataFrame(columns, dtype=object)


def test_an_image_is_recognised_as_packed_or_by_its_file():
    seen = SeenImages.of(table("a", "b"))
    other_size = table("a", "c").assign(sha256=[word("smaller a"), word("smaller c")])
    assert seen.holds(table("b", "c", "a")).tolist() == [True, False, True]
    assert seen.holds(other_size).tolist() == [True, False]
    assert seen.holds(table("a", "c", source=False)).tolist() == [True, False]


def test_corpora_from_before_there_were_digests_of_files_have_fewer():
    seen = SeenImages.of(table("a", source=False))
    assert len(seen.digests) == 1
    assert seen.holds(table("a", "b")).tolist() == [True, False]
    nothing = pd.DataFrame({"sha256": [None, None]}, dtype=object)
    assert seen.holds(nothing).tolist() == [False, False]
    assert len(SeenImages.of(pd.DataFrame({"id": ["x"]})).digests) == 0


def test_digests_are_keyed_hashes_in_an_order_that_tells_nothing(tmp_path):
    """By hashlib and hmac alone: neither a digest of pixels nor its order stands in the file."""
    names = [f"image {number}" for number in range(50)]
    seen = SeenImages.of(table(*names))
    digests = [digest for column in table(*names).to_numpy().T for digest in column]
    keyed = [hmac.new(seen.salt, digest.encode(), "sha256").digest()[:8] for digest in digests]
    assert seen.digests.tolist() == sorted(int.from_bytes(one, "little") for one in keyed)
    assert seen.digests.tolist() == SeenImages.of(table(*names[::-1])).digests.tolist()
    seen.save(tmp_path)
    held = (tmp_path / FILE).read_bytes()
    for digest in digests:
        assert bytes.fromhex(digest)[:8] not in held
        assert digest[:16].encode() not in held


def test_the_same_image_has_another_digest_beside_other_images():
    one, other = SeenImages.of(table("a", "b")), SeenImages.of(table("a", "c"))
    assert one.salt != other.salt
    assert len(one.salt) == SALT
    assert not set(one.digests.tolist()) & set(other.digests.tolist())


def test_what_is_added_keeps_the_salt_and_counts_once():
    seen = SeenImages.of(table("a", "b"))
    more = seen.adding(table("b", "c"))
    assert more.salt == seen.salt
    assert len(more.digests) == 6
    assert more.holds(table("a", "b", "c", "d")).tolist() == [True, True, True, False]


def test_it_is_written_and_read(tmp_path):
    seen = SeenImages.of(table("a", "b"))
    seen.save(tmp_path)
    again = SeenImages.load(tmp_path)
    assert again.salt == seen.salt
    assert np.array_equal(again.digests, seen.digests)
    assert SeenImages.load(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("place", [0, 8, 100, -1])
def test_a_changed_byte_is_noticed(place, tmp_path):
    SeenImages.of(table("a", "b")).save(tmp_path)
    content = bytearray((tmp_path / FILE).read_bytes())
    content[place] ^= 1
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(RaddinoError, match=r"seen_images.safetensors is damaged .*: restore the file, or delete it"):
        SeenImages.load(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "metadata"),
    [
        ({"digests": np.zeros((2, 8), np.uint8), "salt": np.zeros(SALT, np.uint8)}, {}),
        ({"other": np.zeros((2, 8), np.uint8)}, {SEAL: UNSEALED}),
        ({"digests": np.zeros(16, np.uint8), "salt": np.zeros(SALT, np.uint8)}, {SEAL: UNSEALED}),
        ({"digests": np.zeros((2, 8), np.float32), "salt": np.zeros(SALT, np.uint8)}, {SEAL: UNSEALED}),
        ({"digests": np.zeros((2, 8), np.uint8), "salt": np.zeros(3, np.uint8)}, {SEAL: UNSEALED}),
        (None, None),
    ],
)
def test_a_file_of_others_is_refused(tensors, metadata, tmp_path):
    if tensors is None:
        (tmp_path / FILE).write_bytes(b"")
    else:
        save_file(tensors, tmp_path / FILE, metadata=metadata)
        if metadata:
            seal(tmp_path / FILE)
    with pytest.raises(RaddinoError, match="is damaged"):
        SeenImages.load(tmp_path)


def test_any_reader_of_safetensors_opens_it(tmp_path):
    SeenImages.of(table("a")).save(tmp_path)
    with safe_open(tmp_path / FILE, framework="numpy") as opened:
        assert opened.get_tensor("digests").shape == (2, 8)
        assert opened.get_tensor("salt").shape == (SALT,)
