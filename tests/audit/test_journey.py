"""The whole journey from files full of identifiers: none in anything that it writes or says; leaks put there are found.

``RADDINO_KEY`` keeps the hashes of one run to the next the same.
"""

import base64
import json
import shutil
from pathlib import Path

import pyarrow as pa
import pydicom
import pytest
from PIL import Image, PngImagePlugin
from pyarrow import parquet
from safetensors import safe_open
from safetensors.torch import save_file

from audit.journey import journey
from raddino.audit.audit import audit
from raddino.audit.dicom import JOINS, WHEN
from raddino.audit.texts import NAMES_FILES

pytest.importorskip("highdicom")
pytest.importorskip("timm")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Sources, what was made of them, and a file of what was planted."""
    place = tmp_path_factory.mktemp("journey")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RADDINO_KEY", "the key of these tests")
        strings = journey(place / "sources", place / "out")
        (place / "strings.txt").write_text("\n".join(sorted(strings)), encoding="utf-8")
        yield place


def test_nothing_of_the_sources_is_in_what_was_made(places):
    done = audit(places / "out", sources=[places / "sources" / "dicom", places / "sources" / "manifest.csv"])
    assert done.searched > 10_000
    assert done.files > 90
    assert done.clean, [(one.kind, one.place) for one in done.found] + done.unread
    assert {one.stated for one in done.findings} == {JOINS, NAMES_FILES}
    kinds = {one.kind for one in done.findings if one.stated == JOINS}
    assert kinds >= {"PatientID", "StudyInstanceUID", "MediaStorageSOPInstanceUID"}
    assert not kinds & {"PatientName", "PatientBirthDate", "AccessionNumber", "InstitutionName"}


def test_nothing_that_was_planted_is_there_but_what_is_stated(places):
    done = audit(places / "out", strings=places / "strings.txt")
    assert done.searched > 4000
    assert done.clean, [(one.kind, one.place) for one in done.found] + done.unread
    strict = audit(places / "out", strings=places / "strings.txt", strict=True)
    assert {one.place.split("/")[0].split(":")[0] for one in strict.found} == {
        "seg", "predictions.csv", "name of a file or folder",
    }  # fmt: skip


def test_by_its_looks_it_holds_no_path_but_those_that_commands_said(places):
    done = audit(places / "out")
    assert {(one.kind, one.place.rpartition("/")[2]) for one in done.found} == {("path", "log.txt")}
    assert {one.stated for one in done.findings if one.stated} >= {JOINS, WHEN}


def test_only_what_commands_said_holds_the_folder_that_it_was_made_in(places, tmp_path):
    (tmp_path / "strings.txt").write_text(f"{places}\n{places.parent}\n", encoding="utf-8")
    done = audit(places / "out", strings=tmp_path / "strings.txt", strict=True)
    assert {one.place.rpartition("/")[2].partition(":")[0] for one in done.found} == {"log.txt"}


def leak(kind: str, out: Path, word: str) -> None:
    """Put an identifier into one of the files that the journey made."""
    if kind == "parquet cell":
        table = parquet.read_table(out / "corpus/manifest.parquet")
        texts = table["warnings"].to_pylist()
        texts[3] = word
        at = table.schema.get_field_index("warnings")
        parquet.write_table(
            table.set_column(at, "warnings", pa.array(texts, pa.string())), out / "corpus/manifest.parquet"
        )
    elif kind == "parquet metadata":
        table = parquet.read_table(out / "f.parquet")
        parquet.write_table(table.replace_schema_metadata({"a": word}), out / "f.parquet")
    elif kind == "PNG text":
        info = PngImagePlugin.PngInfo()
        info.add_text("Comment", word, zip=True)
        Image.open(out / "run/curves.png").save(out / "run/curves.png", pnginfo=info)
    elif kind == "tar member":
        import io
        import tarfile

        with tarfile.open(next((out / "corpus/shards").glob("*.tar")), "a", encoding="utf-8") as archive:
            archive.addfile(tarfile.TarInfo(f"{word}.png"), io.BytesIO())
    elif kind == "safetensors metadata":
        file = out / "run/encoder/model.safetensors"
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        save_file(tensors, file, {"a": word})
    elif kind == "JSON":
        file = out / "results/metrics.json"
        read = json.loads(file.read_text(encoding="utf-8"))
        read["rows"][0]["detail"] = {word: 1}
        file.write_text(json.dumps(read), encoding="utf-8")
    elif kind == "HTML data URI":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("a", word, zip=True)
        Image.new("L", (4, 4)).save(out / "a.png", pnginfo=info)
        data = base64.b64encode((out / "a.png").read_bytes()).decode()
        (out / "a.png").unlink()
        with (out / "results/report.html").open("a", encoding="utf-8") as page:
            page.write(f'<img src="data:image/png;base64,{data}">')
    elif kind == "log":
        with (out / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"note on {word}\n")
    elif kind == "name":
        (out / "results/probes" / word).mkdir()
    else:
        file = next((out / "seg").glob("*.dcm"))
        image = pydicom.dcmread(file)
        image.SpecificCharacterSet = "ISO_IR 192"
        if kind == "SEG":
            image.PatientName = word
        elif kind == "SEG sequence":
            image.SegmentSequence[0].TrackingID = word
        else:
            image.private_block(0x0011, "ZQ", create=True).add_new(1, "LO", word)
        image.save_as(file)


@pytest.mark.parametrize(
    "kind",
    ["parquet cell", "parquet metadata", "PNG text", "tar member", "safetensors metadata", "JSON", "HTML data URI",
     "log", "name", "SEG", "SEG sequence", "SEG private"],
)  # fmt: skip
def test_a_leak_is_found(places, tmp_path, kind):
    out = shutil.copytree(places / "out", tmp_path / "out", ignore=shutil.ignore_patterns("features", "checkpoints"))
    words = (places / "strings.txt").read_text(encoding="utf-8").splitlines()
    word = next(one for one in words if "^Örs" in one) if kind in ("SEG", "JSON") else words[len(words) // 2]
    (tmp_path / "strings.txt").write_text(f"{word}\nzqnowhere77\n", encoding="utf-8")
    assert audit(out, strings=tmp_path / "strings.txt").clean
    leak(kind, out, word)
    done = audit(out, strings=tmp_path / "strings.txt")
    assert done.found
    assert done.unread == []
    assert all(word not in one.place for one in done.found)
