"""Sections of made-up reports in the layouts of MIMIC-CXR and Open-i."""

import tarfile

import pytest

from raddino.corpus.sections import MAX_XML, openi_sections, parse_sections, parse_xml
from raddino.errors import RaddinoError

REPORT = """\
                                 FINAL REPORT
 EXAMINATION:  CHEST (PORTABLE AP)

 INDICATION:  ___ year old woman with fever  // pneumonia?

 TECHNIQUE:  Portable view.   COMPARISON:  ___.

 FINDINGS:

 Tubes are where they were.
 The left lung is clear.

 LUNGS: a patch on the right.

 IMPRESSION:

 1.  Patch on the right.
 2.  No effusion.

 RECOMMENDATION(S):  Repeat in two weeks.

 NOTIFICATION:  By telephone, ___.
"""


def test_a_report_with_every_section():
    assert parse_sections(REPORT) == {
        "examination": "CHEST (PORTABLE AP)",
        "indication": "___ year old woman with fever // pneumonia?",
        "technique": "Portable view.",
        "comparison": "___.",
        "findings": "Tubes are where they were. The left lung is clear. LUNGS: a patch on the right.",
        "impression": "1. Patch on the right. 2. No effusion.",
        "recommendation": "Repeat in two weeks.",
        "notification": "By telephone, ___.",
    }


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n \t"])
def test_line_ends_do_not_matter(end):
    assert parse_sections(REPORT.replace("\n", end)) == parse_sections(REPORT)


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        ("", {}),
        (" \n\r\n\t", {}),
        ("Clear lungs. No effusion.", {"unheaded": "Clear lungs. No effusion."}),
        ("Left lung: clear", {"unheaded": "Left lung: clear"}),
        ("At 3:45 p.m. clear", {"unheaded": "At 3:45 p.m. clear"}),
        ("肺野清晰，未见积液。", {"unheaded": "肺野清晰，未见积液。"}),
        ("FINDINGS: 肺野清晰。\nIMPRESSION: 正常", {"findings": "肺野清晰。", "impression": "正常"}),
        ("FINDINGS:\n\nIMPRESSION: Normal.", {"findings": "", "impression": "Normal."}),
        ("FINDINGS\nClear.\nIMPRESSION\nNormal.", {"findings": "Clear.", "impression": "Normal."}),
        ("Findings: Clear.\nImpression: Normal.", {"findings": "Clear.", "impression": "Normal."}),
        ("FINDINGS: A. IMPRESSION: B.", {"findings": "A.", "impression": "B."}),
        ("FINDINGS AND IMPRESSION:\nClear.", {"findings": "Clear."}),
        ("IMPRESSION AND FINDINGS: Clear.", {"findings": "Clear."}),
        ("IMPRESSON: Normal.\nFINDNGS: Clear.", {"impression": "Normal.", "findings": "Clear."}),
        ("CONCLUSION: Normal.", {"impression": "Normal."}),
        ("HISTORY: Cough.\nREASON FOR EXAM: Fever.", {"indication": "Cough. Fever."}),
        ("FINDINGS: A.\nIMPRESSION: B.\nFINDINGS: C.", {"findings": "A. C.", "impression": "B."}),
        ("CHEST, TWO VIEWS: Clear.", {"findings": "Clear."}),
        ("DATE OF SERVICE: ___\nFINDINGS: Clear.", {"other": "___", "findings": "Clear."}),
        ("FINDINGS:\nHEART: large.\nBONES: thin.", {"findings": "HEART: large. BONES: thin."}),
        ("ADDENDUM: See CT.\nFINDINGS: Clear.", {"addendum": "See CT.", "findings": "Clear."}),
        ("FINDINGS: Clear.\n ADDENDUM  \n See CT.", {"findings": "Clear.", "addendum": "See CT."}),
        ("FINDINGS: As on the prior study: clear.", {"findings": "As on the prior study: clear."}),
    ],
)
def test_layouts(text, sections):
    assert parse_sections(text) == sections


def test_what_follows_an_indication_without_a_header_does_not_leak_into_it():
    text = "HISTORY: Fever.\n\nCOMPARISON:\n\nNone.\n\nTwo views show an effusion.\n\nIMPRESSION: Effusion."
    assert parse_sections(text) == {
        "indication": "Fever.",
        "comparison": "None.",
        "unheaded": "Two views show an effusion.",
        "impression": "Effusion.",
    }


def test_a_wet_read_ends_where_the_final_report_begins():
    text = f"WET READ: ___ ___ 7:12 PM\n  No change.\n{'_' * 78}\n   FINAL REPORT\n Two views.\n FINDINGS: Clear.\n"
    assert parse_sections(text) == {
        "wet_read": "___ ___ 7:12 PM No change.",
        "unheaded": "Two views.",
        "findings": "Clear.",
    }


def test_very_long_texts_keep_every_word():
    words = "LUNGS ARE CLEAR AND IMPRESSION " * 40_000
    assert parse_sections(f"FINDINGS: {words}")["findings"].split() == words.split()
    assert len(parse_sections("FINDINGS:\n" + "A B: c\n" * 40_000)["findings"].split()) == 120_000


def test_open_i_xml():
    document = b"""<?xml version="1.0" encoding="utf-8"?><eCitation><Abstract>
      <AbstractText Label="COMPARISON">None.</AbstractText><AbstractText Label="INDICATION"/>
      <AbstractText Label="FINDINGS">XXXX lung
        is <b>clear</b> &amp; open.</AbstractText><AbstractText Label="Findings">More.</AbstractText>
      <AbstractText Label="NOTE">x</AbstractText><AbstractText>y</AbstractText></Abstract></eCitation>"""
    assert openi_sections(parse_xml(document)) == {
        "comparison": "None.",
        "indication": "",
        "findings": "XXXX lung is clear & open. More.",
        "other": "x",
        "unheaded": "y",
    }
    assert openi_sections(parse_xml(b"\xef\xbb\xbf<a/>")) == {}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"<a><b></a>", "not well-formed at line 1"),
        (b"", "not well-formed"),
        (b"\xff\xfe<\x00a\x00/\x00>\x00", "not UTF-8"),
        (b"<a>\xe9</a>", "not UTF-8"),
        (b'<!DOCTYPE a [<!ENTITY x "boom">]><a>&x;</a>', "document type or entities is refused"),
        (b'<!doctype a SYSTEM "file:///etc/passwd"><a/>', "document type or entities is refused"),
        (b"<a>&x;</a>", "not well-formed"),
        (b"<a>" + b" " * MAX_XML + b"</a>", "bytes is refused"),
    ],
)
def test_xml_that_is_refused(document, message):
    with pytest.raises(RaddinoError, match=message) as caught:
        parse_xml(document)
    assert "\n" not in str(caught.value)


def test_every_report_of_open_i(shared):
    archive = shared / "data/cxr/text/NLMCXR_reports.tgz"
    if not archive.is_file():
        pytest.skip("the Open-i reports are not on this machine")
    found = []
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isfile() and member.name.endswith(".xml") and member.size < MAX_XML:
                found.append(openi_sections(parse_xml(tar.extractfile(member).read())))
    assert len(found) == 3955
    assert all(set(sections) == {"comparison", "indication", "findings", "impression"} for sections in found)
    assert sum(not sections["findings"] for sections in found) == 530
    assert sum(not sections["impression"] for sections in found) == 34
