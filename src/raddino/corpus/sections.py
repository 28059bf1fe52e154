"""The sections of a radiology report: MIMIC-CXR's free text and Open-i's XML."""

import difflib
import re
from collections.abc import Iterable
from xml.etree import ElementTree

from raddino.errors import RaddinoError

HEADERS = {
    "findings": ("findings", "finding", "findings and impression", "findings/impression", "impression and findings",
                 "observations", "report"),
    "impression": ("impression", "impressions", "conclusion", "conclusions", "summary", "opinion"),
    "indication": ("indication", "indications", "clinical indication", "history", "clinical history",
                   "patient history", "clinical information", "reason for exam", "reason for examination",
                   "reason for study", "reason"),
    "comparison": ("comparison", "comparisons", "comparison exam", "comparison film", "comparison study",
                   "reference exam"),
    "technique": ("technique", "procedure"),
    "examination": ("examination", "exam", "type of examination", "study"),
    "recommendation": ("recommendation", "recommendations"),
    "notification": ("notification", "notifications"),
    "addendum": ("addendum",),
    "wet_read": ("wet read", "wetread", "preliminary report"),
}  # fmt: skip
"""Section name to the headers that open it, in lower case."""

SECTION_OF = {header: section for section, headers in HEADERS.items() for header in headers}
CONTEXT = ("indication", "comparison", "technique", "examination")
"""Sections that end with their paragraph: what follows a blank line without a header may tell the findings."""

UNHEADED, OTHER = "unheaded", "other"
TYPING_ERROR = 0.87
MAX_XML = 1 << 20
WORDS = "|".join(re.escape(header).replace(r"\ ", r"[ ]+") for header in sorted(SECTION_OF, key=len, reverse=True))
CAPITALS = WORDS.upper().replace("[ ]", "[ \t]")
INLINE = re.compile(rf"(?:(?<=\s)|^)({CAPITALS})(?:\(S\))?[ \t]*:")
LINE = re.compile(rf"\s*(?:({WORDS})(?:\(s\))?[ \t]*:|([A-Z][A-Z0-9 ,/&()\-]{{2,70}}?)[ \t]*:(?=\s|$))", re.IGNORECASE)
ALONE = re.compile(rf"\s*({CAPITALS})(?:\(S\))?[ \t]*$")
FINAL_REPORT = re.compile(r"\s*FINAL (?:REPORT|ADDENDUM)\b[ \t]*:?", re.IGNORECASE)
RULER = re.compile(r"\s*[_=\-]{10,}\s*$")
CHEST_VIEW = re.compile(r"\b(?:CHEST|VIEWS?|RADIOGRAPHS?|PORTABLE|PA AND LATERAL|AP AND LATERAL)\b")


def parse_sections(text: str) -> dict[str, str]:
    """The sections of a free-text report, as MIMIC-CXR has them (Johnson et al., Scientific Data 6:317).

    A header is a known one (:data:`HEADERS`, singular and plural, one or two letters mistyped) at the start of a
    line before a colon, in capitals also within a line or alone on its line, or any words in capitals before a
    colon at the start of a line. ``"FINDINGS AND IMPRESSION:"`` and a header that names a view of the chest
    (``"CHEST, TWO VIEWS:"``) open the findings. Unknown headers belong to the text of findings and impression
    (``"LUNGS:"``) and are ``"other"`` elsewhere. Sections that come twice are joined in order. An indication,
    comparison, technique or examination ends with its paragraph; what follows, and all text before the first
    header, is ``"unheaded"``, never guessed to be findings. ``"FINAL REPORT"`` ends a wet read.

    Args:
        text: of any length and script, with any line ends; parsed in linear time.

    Returns:
        section name to its text with white space collapsed, in order of appearance. A header without text is an
        empty string; a section that is not there is not in the dict; an empty text gives an empty dict.
    """
    parts: dict[str, list[str]] = {}
    current = UNHEADED
    for line in text.splitlines():
        if not line.strip():
            if current in CONTEXT and any(parts.get(current, ())):
                current = UNHEADED
            continue
        if RULER.match(line):
            continue
        if final := FINAL_REPORT.match(line):
            current, line = UNHEADED, line[final.end() :]
        for section, content in _split(line, current):
            current = section
            parts.setdefault(section, []).append(content)
    joined = {section: " ".join(" ".join(lines).split()) for section, lines in parts.items()}
    return {section: content for section, content in joined.items() if content or section in HEADERS}


def _split(line: str, current: str) -> Iterable[tuple[str, str]]:
    """(section, text) of the pieces of one line, which begins within the section ``current``."""
    if alone := ALONE.match(line):
        yield SECTION_OF[" ".join(alone[1].lower().split())], ""
        return
    start = 0
    if head := LINE.match(line):
        section = _section(head[1] or head[2], current)
        if section is not None:
            current, start = section, head.end()
    for inner in INLINE.finditer(line, start):
        if before := line[start : inner.start()].strip():
            yield current, before
        elif start:
            yield current, ""
        current, start = _section(inner[1], current) or current, inner.end()
    yield current, line[start:].strip()


def _section(header: str, current: str) -> str | None:
    """The section that a header opens; None where it is part of the text."""
    words = " ".join(header.lower().split())
    if words in SECTION_OF and header[0].isupper():
        return SECTION_OF[words]
    if header != header.upper():
        return None
    if words.endswith("and impression"):
        return "findings"
    if near := difflib.get_close_matches(words, SECTION_OF, n=1, cutoff=TYPING_ERROR):
        return SECTION_OF[near[0]]
    if current in ("findings", "impression"):
        return None
    return "findings" if CHEST_VIEW.search(header) else OTHER


def parse_xml(data: bytes) -> ElementTree.Element:
    """The root of a small XML document that declares nothing: no document type, hence no entities to expand.

    Raises:
        RaddinoError: more than 1 MiB, not UTF-8, a document type or entity declaration, or not well-formed; the
            message names no content.
    """
    if len(data) > MAX_XML:
        raise RaddinoError(f"XML of more than {MAX_XML} bytes is refused: a report has fewer")
    try:
        text = data.decode("utf-8-sig")
        if "<!doctype" in text.lower() or "<!entity" in text.lower():
            raise RaddinoError("XML with a document type or entities is refused: reports have none")
        return ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError) as error:
        where = getattr(error, "position", None)
        at = f" at line {where[0]}" if where else ": not UTF-8"
        raise RaddinoError(f"XML is not well-formed{at}") from None


def openi_sections(root: ElementTree.Element) -> dict[str, str]:
    """The sections of an Open-i report: each ``<AbstractText Label="FINDINGS">``, as :func:`parse_sections` does.

    A label that comes twice is joined in order; an element without text is an empty string.
    """
    parts: dict[str, list[str]] = {}
    for element in root.iter("AbstractText"):
        label = " ".join((element.get("Label") or "").lower().split())
        section = SECTION_OF.get(label, OTHER if label else UNHEADED)
        parts.setdefault(section, []).extend("".join(element.itertext()).split())
    return {section: " ".join(words) for section, words in parts.items()}
