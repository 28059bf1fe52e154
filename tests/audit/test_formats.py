"""An identifier is found in every format, compressed, encoded or nested as it may be."""

import base64
import bz2
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image, PngImagePlugin
from pyarrow import parquet
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from safetensors.numpy import save

from raddino.audit.audit import audit

WORD = "Zq7éx"
"""Five signs: too few to be looked for in raw bytes, so that it is found only where a format is opened."""
KEY = "the key of these tests"


def png(text=None, behind=b"", chunk=None):
    info = PngImagePlugin.PngInfo()
    if text:
        text(info)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(buffer, "PNG", pnginfo=info)
    data = buffer.getvalue()
    if chunk:
        data = data[:33] + chunks(chunk)[8:] + data[33:]
    return data + behind


def chunks(*parts):
    made = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def table(**columns):
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def described(about, of=None):
    buffer = io.BytesIO()
    made = pa.table({"a": pa.array([1])})
    if of:
        made = made.cast(pa.schema([pa.field("a", pa.int64(), metadata=about)]))
    parquet.write_table(made if of else made.replace_schema_metadata(about), buffer)
    return buffer.getvalue()


def tar(name="a.txt", data=b"", **header):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for key, value in header.items():
            setattr(info, key, value)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def packed(name="a.txt", data="", comment=b"", method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, data)
        archive.comment = comment
    return buffer.getvalue()


def array(values):
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def arrays(**values):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **values)
    return buffer.getvalue()


def database(value):
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE params (value TEXT)")
    base.execute("INSERT INTO params VALUES (?)", [value])
    base.commit()
    return base.serialize()


def dicom(**elements):
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.66.4"
    image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5.6"
    image.SpecificCharacterSet, image.Manufacturer = "ISO_IR 192", "raddino"
    for keyword, value in elements.items():
        setattr(image, keyword, value)
    block = image.private_block(0x0011, "ZZ", create=True)
    block.add_new(1, "UN", elements.get("private", b""))
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def item(word):
    inside = Dataset()
    inside.PatientName = word
    return inside


def message(*texts):
    """A protocol buffer: a text in a message in a message."""
    inner = b"".join(b"\x0a" + bytes([len(text)]) + text for text in texts)
    middle = b"\x08\x96\x01\x12" + bytes([len(inner)]) + inner
    return b"\x3a" + bytes([len(middle)]) + middle


def event(data):
    return struct.pack("<QI", len(data), 0) + data + struct.pack("<I", 0)


def uri(kind, data):
    return f'<img src="data:{kind};base64,{base64.b64encode(data).decode()}">'.encode()


W = WORD.encode()
LATIN = WORD.encode("latin-1")
NOISE = np.random.default_rng(0).integers(0, 256, 3000, np.uint8).tobytes()
CASES = {
    "log.txt": W,
    "latin.txt": b"caf\xe9 " + LATIN,
    "utf16.txt": WORD.encode("utf-16"),
    "utf32.txt": WORD.encode("utf-32"),
    "mark.csv": b"\xef\xbb\xbf" + W + b",b\n1,2\n",
    "a.json": json.dumps({"a": [{"b": WORD}]}).encode(),
    "key.json": json.dumps({WORD: 1}).encode(),
    "twice.json": b'{"a": "' + W + b'", "a": 1}',
    "broken.json": b'{"a": "' + W,
    "lines.jsonl": b'{"a": 1}\n' + json.dumps({"a": WORD}).encode(),
    "nested.json": json.dumps({"a": json.dumps(WORD)}).encode(),
    "a.yaml": f"a: {json.dumps(WORD)}".encode(),
    "comment.yaml": f"a: 1  # {WORD}".encode(),
    "a.csv": f'a,b\n1,"{WORD}"\n'.encode(),
    "quoted.html": b"%" + W.hex(" ").replace(" ", "%").encode(),
    "entities.html": "".join(f"&#x{ord(sign):x};" for sign in WORD).encode(),
    "escaped.tex": "".join(f"\\u{ord(sign):04x}" for sign in WORD).encode(),
    "octal.txt": "".join(f"\\{byte:03o}" for byte in LATIN).encode(),
    "png.html": uri("image/png", png(lambda info: info.add_text("a", WORD, zip=True))),
    "json.html": uri("application/json", json.dumps({"a": WORD}).encode()),
    "plain.html": f'<a href="data:text/plain,%5A{WORD[1:]}">'.encode(),
    "svg.html": uri("image/svg+xml", b"<svg>" + uri("text/plain", W) + b"</svg>"),
    "block.txt": b"key " + base64.b64encode(b" " * 200 + W),
    "text.png": png(lambda info: info.add_text("a", "Zq7\xe9x")),
    "keyword.png": png(lambda info: info.add_text("Zq7\xe9x", "a")),
    "packed.png": png(lambda info: info.add_text("a", "Zq7\xe9x", zip=True)),
    "international.png": png(lambda info: info.add_itxt("a", WORD, lang="en", zip=True)),
    "translated.png": png(lambda info: info.add_itxt("a", "b", lang="en", tkey=WORD)),
    "own.png": png(chunk=(b"zqPt", W)),
    "behind.png": png(behind=W),
    "pixels.png": chunks((b"IHDR", bytes(13)), (b"IDAT", zlib.compress(NOISE) + W), (b"IEND", b"")),
    "cell.parquet": table(a=[WORD, None]),
    "list.parquet": table(a=[[["b"], [WORD]]]),
    "bytes.parquet": table(a=[W]),
    "record.parquet": table(a=[{"b": WORD}]),
    "dictionary.parquet": table(a=pa.array([WORD]).dictionary_encode()),
    "column.parquet": table(**{WORD: [1]}),
    "about.parquet": described({"a": WORD}),
    "key.parquet": described({WORD: "a"}),
    "field.parquet": described({"a": WORD}, of="a"),
    "name.tar": tar(name=f"{WORD}.txt"),
    "inside.tar": tar(data=W),
    "user.tar": tar(uname=WORD),
    "link.tar": tar(type=tarfile.SYMTYPE, linkname=WORD),
    "pax.tar": tar(pax_headers={"comment": WORD}),
    "png.tar": tar(name="a.png", data=png(lambda info: info.add_itxt("a", WORD, zip=True))),
    "name.zip": packed(f"{WORD}.txt"),
    "inside.zip": packed(data=W),
    "comment.zip": packed(comment=W),
    "deep.zip": packed("a.gz", gzip.compress(tar(data=bz2.compress(W)))),
    "a.gz": gzip.compress(W),
    "a.xz": lzma.compress(W),
    "a.bz2": bz2.compress(W),
    "a.zst": pa.compress(W, "zstd", asbytes=True),
    "about.safetensors": save({"a": np.zeros(3)}, {"b": WORD}),
    "name.safetensors": save({WORD: np.zeros(3)}),
    "a.npy": array(np.array(["b", WORD])),
    "bytes.npy": array(np.array([W])),
    "record.npy": array(np.array([(1, WORD)], [("a", int), ("b", "U9")])),
    "a.npz": arrays(a=np.array([WORD])),
    "name.npz": arrays(**{WORD: np.zeros(3)}),
    "mlflow.db": database(WORD),
    "blob.db": database(gzip.compress(W)),
    "a.onnx": message(b"\1\2\3", W, NOISE[:40]),
    "events.out.tfevents.1": event(message(b"tag")) + event(message(W)),
    "a.pkl": pickle.dumps([WORD]),
    "data.pt": packed("a/data.pkl", pickle.dumps({WORD: 1})),
    "name.dcm": dicom(PatientName=f"B^{WORD}"),
    "item.dcm": dicom(ReferencedPatientSequence=[item(WORD)]),
    "private.dcm": dicom(private=b"x " + W),
    "preamble.dcm": W.ljust(128, b"\0") + dicom()[128:],
    "unknown.bin": NOISE + b"\0as printable: zq7\xc3\xa9x".replace(b"\xc3\xa9", b"e") + b"e and more\0" + NOISE,
}


@pytest.fixture
def strings(tmp_path, monkeypatch):
    monkeypatch.setenv("RADDINO_KEY", KEY)
    (tmp_path / "strings.txt").write_text(f"{WORD}\nzq7exe\nzq2345678\n", encoding="utf-8")
    return tmp_path / "strings.txt"


@pytest.mark.parametrize("name", CASES)
def test_it_is_found(name, tmp_path, strings):
    (tmp_path / "artefact").mkdir()
    (tmp_path / "artefact" / name).write_bytes(CASES[name])
    done = audit(tmp_path / "artefact", strings=strings)
    assert done.found, done
    assert done.unread == []
    assert all(WORD not in one.place for one in done.found)


@pytest.mark.parametrize("name", CASES)
def test_without_it_nothing_is(name, tmp_path, strings):
    (tmp_path / name).write_bytes(CASES[name])
    (tmp_path / "other.txt").write_text("zq77777\nzq8888888", encoding="utf-8")
    done = audit(tmp_path / name, strings=tmp_path / "other.txt")
    assert done.clean, done


@pytest.mark.parametrize("kind", ["a.bin", "a.tar", "a.parquet", "a.safetensors", "a.npy", "a.db", "a.png", "a.dcm"])
def test_raw_bytes_are_searched_in_any_format(kind, tmp_path, strings):
    whole = {"a.bin": NOISE, "a.tar": tar(data=NOISE), "a.parquet": table(a=[NOISE]), "a.png": png(),
             "a.safetensors": save({"a": np.frombuffer(NOISE, np.uint8)}), "a.npy": array(np.frombuffer(NOISE, "u1")),
             "a.db": database("x" * 2000), "a.dcm": dicom(BitsAllocated=8, PixelData=NOISE)}[kind]  # fmt: skip
    middle = len(whole) // 2
    (tmp_path / kind).write_bytes(whole[:middle] + b"zq2345678" + whole[middle + 9 :])
    assert audit(tmp_path / kind, strings=strings).found


@pytest.mark.parametrize(
    "name",
    ["packed.png", "cell.parquet", "inside.zip", "a.gz", "a.xz", "a.bz2", "a.zst", "about.safetensors", "a.npy",
     "mlflow.db", "a.pkl", "events.out.tfevents.1", "inside.tar"],
)  # fmt: skip
def test_a_damaged_file_proves_nothing(name, tmp_path, strings):
    data = bytearray(CASES[name])
    middle = data.find(b"IDAT") + 8 if name.endswith("png") else len(data) // 3
    data[middle : middle + 12] = b"\xff" * 12
    if name.endswith((".gz", ".xz", ".bz2", ".zst", ".npy", ".pkl", "tfevents.1", ".tar")):
        data = data[: len(data) * 2 // 3]
    (tmp_path / name).write_bytes(data)
    done = audit(tmp_path / name, strings=strings)
    assert not done.clean
    assert done.unread or done.found


def test_an_encrypted_archive_and_a_bomb_prove_nothing(tmp_path, strings, monkeypatch):
    from raddino.audit import pieces

    locked = bytearray(packed(data="x" * 50, method=zipfile.ZIP_STORED))
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        locked[locked.find(mark) + at] |= 1
    (tmp_path / "a.zip").write_bytes(locked)
    assert [why for _, why in audit(tmp_path / "a.zip", strings=strings).unread] == ["encrypted"]
    monkeypatch.setattr(pieces, "MOST_UNPACKED", 10_000)
    for name, data in (
        ("b.gz", gzip.compress(bytes(20_000))), ("b.zip", packed(data=bytes(20_000))),
        ("b.png", png(chunk=(b"zTXt", b"a\0\0" + zlib.compress(bytes(20_000))))),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        ((_, why),) = audit(tmp_path / name, strings=strings).unread
        assert "cannot be opened" in why


def test_nesting_ends(tmp_path, strings):
    data = W
    for _ in range(20):
        data = gzip.compress(data)
    (tmp_path / "a.gz").write_bytes(data)
    assert [why for _, why in audit(tmp_path / "a.gz", strings=strings).unread] == ["nested too deeply"]
