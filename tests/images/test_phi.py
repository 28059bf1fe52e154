"""The key: where it comes from, who may read it, and what it protects."""

import hashlib
import hmac
import os
import stat

import pytest

from raddino.errors import RaddinoError
from raddino.images.phi import OVERLAY_BIT_POSITIONS, key_name, key_path, keyed_hash, load_key, patient_hash, study_hash

KEY = "a key of this test alone"


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("RADDINO_KEY", raising=False)


def test_hash_is_hmac_sha256():
    expected = hmac.new(KEY.encode(), b"patient\0nih\x0042", hashlib.sha256).hexdigest()[:20]
    assert keyed_hash(KEY, "patient", "nih", "42") == expected


def test_hash_depends_on_everything():
    hashes = {
        keyed_hash(key, kind, *parts)
        for key in (KEY, KEY + "x")
        for kind in ("patient", "study")
        for parts in (("a", "b"), ("ab", ""), ("", "ab"), ("b", "a"))
    }
    assert len(hashes) == 16


def test_patients_follow_key_namespace_and_number_in_any_normalisation():
    expected = hmac.new(KEY.encode(), "patient\0west\0Mü".encode(), hashlib.sha256).hexdigest()[:20]
    assert patient_hash(KEY, "west", "M\u00fc") == patient_hash(KEY, "west", "Mu\u0308") == expected
    assert len({patient_hash(key, space, "1") for key in (KEY, KEY + "x") for space in ("", "west")}) == 4


def test_studies_belong_to_someone():
    assert study_hash(KEY, "a", "1") != study_hash(KEY, "b", "1")
    assert study_hash(KEY, "a", "1") != patient_hash(KEY, "a", "1")


def test_a_key_has_a_name_that_does_not_tell_it():
    assert key_name(KEY) == key_name(KEY) != key_name(KEY + "x")
    assert KEY not in key_name(KEY)


def test_text_that_is_not_unicode_is_hashed():
    assert keyed_hash(KEY, "image", "\udcfc") != keyed_hash(KEY, "image", "\udcfd")


def test_key_is_made_once_and_private():
    key = load_key()
    assert len(key) >= 32
    assert load_key() == key
    assert stat.S_IMODE(key_path().stat().st_mode) == 0o600


def test_argument_then_environment(monkeypatch):
    monkeypatch.setenv("RADDINO_KEY", "from the environment")
    assert load_key() == "from the environment"
    assert load_key(KEY) == KEY
    assert not key_path().exists()


def test_short_key_is_refused():
    with pytest.raises(RaddinoError, match="16 characters"):
        load_key("hospital")


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
def test_readable_key_file_is_refused():
    load_key()
    key_path().chmod(0o644)
    with pytest.raises(RaddinoError, match="chmod 600"):
        load_key()


def test_overlays_lie_in_sixteen_groups():
    assert [divmod(tag, 0x10000) for tag in OVERLAY_BIT_POSITIONS] == [(n, 0x0102) for n in range(0x6000, 0x6020, 2)]
