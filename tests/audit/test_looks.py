"""What looks like an identifier, and what of our own does not."""

import pytest

from raddino.audit.looks import looks
from raddino.audit.pieces import Piece

SEEN = {
    "date": ["2001-06-05", "5.6.2001", "06/05/2001", "on 20010605.", "2001:06:05 10:00:00", "5 June 2001",
             "Jun 5, 2001", "05-JUN-2001", "2001/6/5", "born 19991231"],
    "long number": ["1234567", "id 00471147", "(1234567)", "MRN:1234567"],
    "DICOM UID": ["1.2.826.0.1.3680043", "2.25.3291.1.77.4"],
    "path": ["/home/jane/scan.dcm", '"/mnt/pacs"', r"C:\Users\jane", "~/scans", "file at /srv/pacs/a"],
    "e-mail": ["jane.doe@hospital.example"],
    "name": ["Doe^Jane", "Müller^Örsolya"],
}  # fmt: skip
UNSEEN = [
    "3.1415926535", "0.00471147", "1e-7", "2.11.0+cu128", "10.1.2.3", "deadbeef12345678", "12345678abcdef",
    "https://arxiv.org/abs/2401.10815", "train/val/test", "images/s", "and/or", "2401.10815",
    "#00112233", "1.2.840.10008.5.1.4.1.1.66.4", "x^2 + y^2", "</div></p>", "1,234,567", "v1.2.3",
    r"\begin{tabular}", "100/200", "12:30:45", "512 x 512", "-1234567.25",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in SEEN.items() for text in texts])
@pytest.mark.parametrize("around", ["{}", "a {} b", "({})", '"{}"'])
def test_seen(kind, text, around):
    assert kind in {found for _, _, found in looks(Piece("", around.format(text).encode(), "text"))}


@pytest.mark.parametrize("text", UNSEEN)
@pytest.mark.parametrize("around", ["{}", "a {} b", '"{}"'])
def test_not_seen(text, around):
    assert list(looks(Piece("", around.format(text).encode(), "text"))) == []


def test_position_and_text():
    assert list(looks(Piece("", b"on 2001-06-05", "text"))) == [(3, b"2001-06-05", "date")]


def test_raw_bytes_and_codes_are_not_looked_at():
    assert not list(looks(Piece("", b"2001-06-05", "raw")))
    assert not list(looks(Piece("", b"123037004", "cells", "CodeValue")))
    assert list(looks(Piece("", b"123037004", "cells", "PatientID")))


def test_torchs_own_numbers_are_no_identifiers():
    for field, place in (("as_int", "a"), ("from_node", "a"), ("", "model.pt: archive/.data/serialization_id")):
        assert not list(looks(Piece(place, b"139872364512", "cells", field)))
        assert list(looks(Piece(place, b"2001-06-05", "cells", field)))
