"""The command: what it tells, what it keeps to itself, and its exit status."""

import csv
import json
import os
import stat
import sys

import numpy as np
import pytest

from raddino import cli
from raddino.audit import looks
from raddino.audit.account import audit_text, write_audit
from raddino.audit.audit import audit
from raddino.audit.texts import NAMES_FILES
from raddino.errors import ConfigError, RaddinoError
from raddino.sample.generate import sample
from raddino.tasks.segmentation.dicom_seg import write_dicom_seg

WORD = "Zqvorhees77"


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("RADDINO_KEY", "the key of these tests")


@pytest.fixture
def strings(tmp_path):
    (tmp_path / "strings.txt").write_text(f"{WORD}\nzqother99\n", encoding="utf-8")
    return tmp_path / "strings.txt"


@pytest.fixture
def artefact(tmp_path):
    (tmp_path / "artefact").mkdir()
    return tmp_path / "artefact"


def status(*words):
    before, sys.argv = sys.argv, ["raddino", "audit", *map(str, words)]
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


def test_exit_status(artefact, strings, capsys):
    (artefact / "a.txt").write_text("nothing", encoding="utf-8")
    assert status(artefact, "--strings", strings) == 0
    assert status(artefact) == 0
    (artefact / "b.gz").write_bytes(b"\x1f\x8b\x08 broken")
    assert status(artefact, "--strings", strings) == 2
    (artefact / "a.txt").write_text(f"an {WORD}", encoding="utf-8")
    assert status(artefact, "--strings", strings) == 1
    assert status(artefact, "--sources", artefact / "absent") == 2
    assert status(artefact / "absent") == 2
    assert capsys.readouterr().err.count("error: ") == 2


def test_identifiers_are_not_told_unless_asked(artefact, strings, tmp_path, capsys):
    folder = artefact / f"of {WORD.lower()}"
    folder.mkdir()
    (folder / f"{WORD}.json").write_text(json.dumps({f"{WORD} a": {"x": WORD}}), encoding="utf-8")
    (folder / f"{WORD}.gz").write_bytes(b"\x1f\x8b broken")
    for out in ("a.json", "a.csv"):
        assert status(artefact, "--strings", strings, "--out", tmp_path / out) == 1
    told = capsys.readouterr()
    written = [(tmp_path / out).read_text(encoding="utf-8") for out in ("a.json", "a.csv")]
    for text in (told.out, told.err, *written):
        assert WORD.lower() not in text.lower()
    assert status(artefact, "--strings", strings, "--show") == 1
    assert WORD in capsys.readouterr().out


def test_what_is_written_for_machines(artefact, strings, tmp_path):
    (artefact / "a.csv").write_text(f"x,y\n1,2\n3,{WORD}\n5,{WORD}\n", encoding="utf-8")
    done = audit(artefact, strings=strings)
    write_audit(done, tmp_path / "a.json")
    write_audit(done, tmp_path / "a.csv")
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o600
    read = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    (row,) = csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines())
    (one,) = read["findings"]
    assert (read["clean"], read["searched"], read["files"]) == (False, 2, 1)
    assert (one["kind"], one["place"], one["at"], one["times"]) == ("given string", "a.csv: y", "value 2", 2)
    assert {key: str(value or "") for key, value in one.items()} == row


def test_places_are_told(artefact, strings):
    (artefact / "a.txt").write_text(f"one\ntwo {WORD}", encoding="utf-8")
    (artefact / "b.bin").write_bytes(bytes(100) + WORD.encode() + bytes(9))
    found = {(one.place, one.at) for one in audit(artefact, strings=strings).found}
    assert found >= {("a.txt", "line 2"), ("b.bin", "byte 100")}
    assert "a.txt" in audit_text(audit(artefact, strings=strings))


def test_names_and_links(artefact, strings):
    (artefact / WORD).mkdir()
    os.symlink(f"/data/{WORD}", artefact / "link")
    os.mkfifo(artefact / "pipe")
    done = audit(artefact, strings=strings)
    assert {one.place for one in done.found} == {"name of a file or folder", "link: target of the link"}
    assert done.unread == [("pipe", "no regular file")]


def test_an_empty_file_and_one_without_rights(artefact, strings):
    (artefact / "empty").touch()
    assert audit(artefact, strings=strings).clean
    (artefact / "closed").write_text("x", encoding="utf-8")
    (artefact / "closed").chmod(0)
    if not os.access(artefact / "closed", os.R_OK):
        assert not audit(artefact, strings=strings).clean


def test_whoever_uses_this_machine(artefact, monkeypatch):
    monkeypatch.setattr(looks.getpass, "getuser", lambda: "zqadmin")
    monkeypatch.setattr(looks.socket, "gethostname", lambda: "zqhost-3")
    (artefact / "a.txt").write_text("zqadmin at zqhost-3", encoding="utf-8")
    assert {one.kind for one in audit(artefact).found} == {"user of this machine", "name of this machine"}


def test_without_sources_what_looks_like_one_is_found_and_masked(artefact):
    (artefact / "a.json").write_text('{"when": "2001-06-05", "seed": 12345678, "other": 12345678}', encoding="utf-8")
    done = audit(artefact)
    assert {(one.kind, one.place) for one in done.found} == {
        ("date", "a.json: when"), ("long number", "a.json: other"),
    }  # fmt: skip
    assert "2001" not in audit_text(done)


def test_sizes_and_seeds_are_no_identifiers(artefact, strings):
    strings.write_text("12345678\n", encoding="utf-8")
    (artefact / "a.json").write_text('{"seed": 12345678, "rows": [{"offset": 12345678}]}', encoding="utf-8")
    assert audit(artefact, strings=strings).clean
    (artefact / "a.json").write_text('{"seed": "12345678"}', encoding="utf-8")
    assert audit(artefact, strings=strings).found


def test_what_would_prove_nothing_is_refused(artefact, tmp_path):
    (tmp_path / "short.txt").write_text("PA\nF\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="nothing would be proved"):
        audit(artefact, strings=tmp_path / "short.txt")
    with pytest.raises(ConfigError, match="does not exist"):
        audit(tmp_path / "absent")
    with pytest.raises(RaddinoError, match="cannot be read"):
        audit(artefact, strings=tmp_path / "absent.txt")


def test_what_was_not_searched_for_is_counted(artefact, strings):
    strings.write_text(f"{WORD}\nPA\nMN\n0.25\n", encoding="utf-8")
    done = audit(artefact, strings=strings)
    assert done.not_searched == {"shorter than 4 characters": 2, "decimal numbers of fewer than 6 digits": 1}
    assert "not searched for: 2 shorter than 4 characters" in audit_text(done)


def test_many_members_are_one_row(artefact, strings):
    import io
    import tarfile

    with tarfile.open(artefact / "a.tar", "w", encoding="utf-8") as archive:
        for n in range(50):
            info = tarfile.TarInfo(f"{n}.json")
            data = json.dumps({"patient": WORD}).encode()
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    (one,) = audit(artefact, strings=strings).found
    assert (one.place, one.times) == ("a.tar: 0.json: patient", 50)


def test_segment_and_predict_may_name_their_files_and_nothing_else_may(artefact, strings):
    (artefact / "skipped.csv").write_text(f"image,reason\n{WORD}.dcm,no pixel data\n", encoding="utf-8")
    (artefact / f"{WORD}.dcm.png").touch()
    (artefact / "segment.json").write_text('{"model": "x"}', encoding="utf-8")
    done = audit(artefact, strings=strings)
    assert done.clean
    assert {one.stated for one in done.findings} == {NAMES_FILES}
    assert len(audit(artefact, strings=strings, strict=True).found) == 2
    (artefact / "segment.json").write_text('{"other": "x"}', encoding="utf-8")
    (artefact / "skipped.csv").write_text(f"image,why\n{WORD}.dcm,no pixel data\n", encoding="utf-8")
    assert len(audit(artefact, strings=strings).found) == 2


@pytest.mark.parametrize("carry", [False, True])
def test_a_segmentation_that_carries_its_sources_header_is_found(tmp_path, artefact, carry):
    pytest.importorskip("highdicom")
    sample(tmp_path / "made", 1, size=48, format="dicom", workers=1)
    file = next((tmp_path / "made" / "images").glob("*.dcm"))
    write_dicom_seg(artefact / "a.dcm", file, np.ones((1, 48, 48), bool), ["left lung"], "abc", carry_header=carry)
    done = audit(artefact, sources=[file])
    assert any(place.endswith("PatientName") for place in (one.place for one in done.found)) == carry
    assert any(one.place.endswith("PatientID") and one.stated for one in done.findings)
    assert done.clean == (not carry)
