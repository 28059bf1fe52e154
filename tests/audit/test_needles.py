"""Identifiers are found however they are spelled, by the standard library's own spellings."""

import base64
import html
import json
import unicodedata
from urllib.parse import quote

import pytest

from raddino.audit.needles import Needles, own_words, patterns
from raddino.audit.search import Guard, Index

WORDS = ["zqvorhees77", "Zq Örs^Müllér", "zq&<99>xy", 'zq"77\\xyz', "ÄÖÜzq77", "肺野清明患者様"]


def found(text, data, as_text=True, **options):
    needles = Needles()
    needles.add(text, "test", **options)
    return {pattern.spelling for _, pattern in Index(list(patterns(list(needles)))).find(data, as_text)}


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    "spell",
    [
        str.encode,
        lambda word: word.upper().encode(),
        lambda word: word.lower().encode(),
        lambda word: unicodedata.normalize("NFD", word).encode(),
        lambda word: unicodedata.normalize("NFC", word).encode(),
        lambda word: word.encode("utf-16-le"),
        lambda word: word.encode("utf-16-be"),
        lambda word: quote(word, safe="").encode(),
        lambda word: quote(word, safe="").lower().encode(),
        lambda word: json.dumps(word).encode(),
        lambda word: html.escape(word).encode(),
        lambda word: html.escape(word).encode("ascii", "xmlcharrefreplace"),
        lambda word: word.encode().hex().encode(),
        lambda word: word.encode().hex().upper().encode(),
        *(lambda word, before=n: base64.b64encode(b"?" * before + word.encode() + b" behind") for n in range(4)),
        *(lambda word, before=n: base64.urlsafe_b64encode(b"?" * before + word.encode()) for n in range(3)),
    ],
)
def test_spellings(word, spell):
    data = spell(word)
    assert found(word, b"\0\1" + data + b"\0\1")
    assert found(word, data)
    assert not found(word, data[: len(data) // 3])


def test_latin_1_and_without_accents():
    assert found("Zq Örs^Müllér", "Zq Örs^Müllér".encode("latin-1"), False) == {"Latin-1"}
    assert found("Zq Örs^Müllér", b"ZQ ORS^MULLER", False) == {"without accents"}


@pytest.mark.parametrize(
    "spelled",
    ["19010203", "1901-02-03", "1901/02/03", "03.02.1901", "02/03/1901", "3/2/1901", "3.2.1901", "3 February 1901",
     "Feb 3, 1901", "03-Feb-1901", "1901:02:03", "1901-02-03T04:05", "(19010203)"],
)  # fmt: skip
@pytest.mark.parametrize("date", ["19010203", "1901-02-03", "3.2.1901", "19010203040506.777"])
def test_dates_in_all_spellings(date, spelled):
    assert found(date, f"on {spelled} and".encode())


@pytest.mark.parametrize("other", ["19010204", "1901-02-13", "319010203", "ab19010203ff", "0.19010203", "1901-02"])
def test_other_dates_are_none(other):
    assert not found("19010203", other.encode())


def test_names_by_their_parts():
    needles = Needles()
    needles.add_name("Zqvorhees^Lí^^Dr=李^明", "PatientName")
    index = Index(list(patterns(list(needles))))
    for text in ("Mrs ZQVORHEES", "Lí Zqvorhees", "zqvorhees, lí", "lí_zqvorhees"):
        assert list(index.find(text.encode(), True)), text
    assert not list(index.find(b"zqvorheesx", True)) or len("zqvorhees") >= 8
    assert needles.skipped["shorter than 4 characters"] > 0


def test_paths_by_their_parts():
    needles = Needles()
    needles.add_path("Zqward/zqjane 77.tar.gz")
    assert {one.text for one in needles} == {
        "Zqward/zqjane 77.tar.gz", "Zqward", "zqjane 77.tar.gz", "zqjane 77.tar", "zqjane 77",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [("PA", "shorter than 4"), ("  F ", "shorter than 4"), ("CHEST", "raddino writes"), ("chest PA", "raddino writes"),
     ("0.143", "fewer than 6 digits"), ("-1.5e3", "fewer than 6 digits")],
)  # fmt: skip
def test_what_is_not_searched_for_is_counted(text, reason):
    needles = Needles()
    needles.add(text, "test")
    needles.add(text, "test")
    assert len(needles) == 0
    ((said, count),) = needles.skipped.items()
    assert reason in said
    assert count == 1


def test_own_words_are_searched_for_where_asked():
    assert "chest" in own_words()
    assert found("chest", b"a chest", wordy=True)
    needles = Needles()
    needles.add_name("Long^Chest", "PatientName")
    assert {one.text for one in needles} >= {"Long^Chest", "Chest Long"}
    assert "Chest" not in {one.text for one in needles}


def test_each_identifier_once():
    needles = Needles()
    for kind in ("PatientID", "file name"):
        needles.add("zq77 ", kind)
    assert [(one.text, one.kind, one.guard) for one in needles] == [("zq77", "PatientID", Guard.WORD)]


def test_short_numbers_count_as_whole_values_alone():
    assert found("4711", b"a\n4711\nb")
    assert not found("4711", b"4711 images")
    assert found("471147", b"of 471147.")
