"""``raddino-rules``: the 14 CheXpert observations in the English text of a report, by rules.

It is a program of its own and its figures are never those of CheXpert or CheXbert. The three stages are CheXpert's
(Irvin et al., AAAI 2019, section 2: mention extraction, classification, aggregation); a mention is denied or in doubt
where a cue of its clause reaches it, in the spirit of NegEx (Chapman et al., J Biomed Inform 2001;34:301) and ConText
(Harkema et al., J Biomed Inform 2009;42:839). No maintained library fits: negspaCy knows no uncertainty, medspaCy
holds spaCy and numpy at older versions. The phrases are data, in ``phrases.yaml``.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import NamedTuple

import yaml

from raddino.corpus.labels import snake_case
from raddino.corpus.sources.chexpert import LABELS

NAME = "raddino-rules"
"""Under which every score computed with these labels is reported."""

OBSERVATIONS = tuple(snake_case(name) for name in LABELS)
POSITIVE, NEGATIVE, UNCERTAIN = 1, 0, -1
VALUES = {"ignore": None, "negative": NEGATIVE, "uncertain": UNCERTAIN}
PRECEDENCE = list(VALUES)

DASHES = str.maketrans(dict.fromkeys("‐‑‒–−", "-") | {"—": " - ", "―": " - ", "’": "'"})
SENTENCE = re.compile(
    r"[;!•‣▪●◦]|(?<=\?)|\.(?!\d)|\n\s*(?=[-*·]|\(?(?:\d{1,2}|[a-h])[.)]\s|\n)|(?:^|\s)\(?\d{1,2}\)\s"
    r"|\s(?:-+|[*·])\s(?!(?:none|no|absent|negative)\s*(?:[.;,]|$))"
)
QUERY = re.compile(r"(?:^|(?<=[\s(,;:.]))\?+(?:(?=\w)|\s+(?=[a-z]))|^\s*\?+\s+(?=\w)")
"""A question mark before what it doubts: "?pneumonia", "opacity ? pneumonia"."""
CONTRACTED = re.compile(r"\b(is|are|was|were|do|does|did|has|have|had)n't\b")
UNFINISHED = re.compile(
    r"(?:[,/:-]|\b(?:an?|the|this|these|there|(?<!: )no|not|without|any|and|or|nor|of|in|on|at|to|for|from|by|with|"
    r"than|as|is|are|was|were|has|have|may|which|that|versus|vs|due|consistent|compatible|evidence))\s*$",
    re.IGNORECASE,
)
ADJECTIVE = re.compile(
    r"\b(?:new|old|small|large|moderate|mild|tiny|trace|minimal|focal|acute|definite|significant|possible|probable|likely|"
    r"left|right|bilateral|upper|middle|lower|lung|lobe|rib|heart|chest|cardiac|pleural|pulmonary|mediastinal|interstitial|"
    r"basilar|apical|residual|visible)\s*$",
    re.IGNORECASE,
)
SHORT = 50
"""Characters of a line that is an item of a list, where letter case does not tell."""
VERB = re.compile(r"\b(?:is|are|was|were|has|have|remains?|appears?|shows?|demonstrates?)\b")
SAYS_SOMETHING = re.compile(VERB.pattern + r"|\b(?:no|without|normal|enlarged|stable|clear|unremarkable)\b")
NEW_SUBJECT = re.compile(
    r"(?:,? and|,? with|,)\s+(?=there (?:is|are|has|have)\b"
    r"|(?:the|this|these|it|its)\b(?: [\w-]+){0,6}? (?:is|are|was|were|has|have|remains?|appears?)\b"
    r"|(?:heart|lungs?|pneumothorax|pleural effusion|effusion)(?: size)? (?:is|are|has|have|remains?|appears?)\b)"
)
STANDS = re.compile(
    r"\b(?:persists?|remains?|continues?|(?:is|are) (?:again |still |now )?(?:present|persistent|unchanged|stable|"
    r"similar|new|larger|smaller|increas\w+|decreas\w+|improv\w+|worsen\w+)"
    r"|(?:has|have) (?:\w+ly )?(?:increased|decreased|improved|worsened|persisted|remained|developed|progressed))\b"
)
NEW_ITEM = re.compile(
    r",\s(?=(?:an?|small|tiny|trace|mild(?:ly)?|moderate(?:ly)?|large|severe|stable|unchanged|persistent|minimal|chronic|"
    r"with|old|bibasilar|left|right|bilateral|possible|probable|likely|borderline|status|some|prominent)\b)"
)
WITH = r"(?<!consistent )(?<!compatible )(?<!associated )(?<!keeping )\bwith\b|\bstatus post\b"
NEW_STATEMENT = re.compile(WITH)
CAUSE = re.compile(WITH + r"|\b(?:secondary to|due to|in the setting of|given|because of)\b")
QUESTION = re.compile(r"(?:is|are|was|were|does|do|did|has|have|could|can|may|any)\b")
OR = re.compile(r"\bor\b|/")
LISTING = re.compile(r"differential|consideration")
DENIABLE = re.compile(r"concern|suspicious|worrisome|suggesti")
OR_BETWEEN = re.compile(r"(?:\s[\w-]+){0,3},?\s(?:and/)?or\s(?:[\w-]+\s){0,4}")
NORMAL_TEXT = re.compile(
    r"\b(?:normal|unremarkable|clear|negative|intact|no (?:\w+ )?(?:acute|active|evidence|abnormal)"
    r"|(?:no|without)(?: (?:acute|active|significant|pathologic(?:al)?|abnormal|relevant|suspicious|remarkable|"
    r"definite|radiographic|cardiopulmonary|focal|gross|major|positive)){0,2}"
    r" (?:findings?|patholog(?:y|ies)|abnormalit(?:y|ies))\b"
    r"|nothing (?:abnormal|pathological|remarkable)|findings? ?: ?(?:none|no|nil)\b)"
)
NEAR, LONGEST = 60, 200
"""Characters that a cue reaches back, and words of one clause."""


class Cue(NamedTuple):
    """A cue in a clause: what it says of a mention (a key of :data:`VALUES`) and on which side of it."""

    start: int
    end: int
    said: str
    side: str


class Mention(NamedTuple):
    """Where a clause speaks of an observation."""

    start: int
    end: int
    observation: str


class Said(NamedTuple):
    """What a clause says of an observation, and where."""

    start: int
    observation: str
    value: int


@dataclass(frozen=True)
class Phrases:
    """``phrases.yaml``, compiled.

    Attributes:
        mentions, unmentions, negatives, structures: by observation.
        states: one pattern with a group a state.
        cues: one pattern with a group a kind, in order of precedence.
        others: what is no observation but stands beside one.
        clauses: words that begin a new clause.
        standing: a finding of which a new statement says that it is there.
    """

    mentions: dict[str, re.Pattern[str]]
    unmentions: dict[str, re.Pattern[str]]
    negatives: dict[str, re.Pattern[str]]
    structures: dict[str, re.Pattern[str]]
    states: re.Pattern[str]
    cues: re.Pattern[str]
    others: re.Pattern[str]
    clauses: re.Pattern[str]
    standing: re.Pattern[str]


def _either(patterns: Iterable[str]) -> str:
    """One pattern without groups of its own."""
    return "|".join("(?:" + re.sub(r"(?<!\\)\((?!\?)", "(?:", pattern) + ")" for pattern in patterns)


def _words(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{_either(patterns)})(?!\w)")


def _groups(patterns: dict[str, list[str]]) -> re.Pattern[str]:
    parts = (f"(?P<{name}>{_either(listed)})" for name, listed in patterns.items())
    return re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)")


@lru_cache(maxsize=1)
def phrases() -> Phrases:
    """The labeler's phrases, read once."""
    data = yaml.safe_load(files(__package__).joinpath("phrases.yaml").read_text(encoding="utf-8"))
    by_name = {
        part: {name: _words(patterns) for name, patterns in data[part].items()}
        for part in ("mentions", "unmentions", "negatives", "structures")
    }
    return Phrases(
        **by_name,
        states=_groups(data["states"]),
        cues=_groups(data["cues"]),
        others=_words(data["others"]),
        clauses=_words(data["clauses"]),
        standing=_standing(data["mentions"]),
    )


def _standing(mentions: dict[str, list[str]]) -> re.Pattern[str]:
    """ ", effusion persists" and ", small left effusion has increased", from the comma or "and" to the finding."""
    anything = _either(pattern for listed in mentions.values() for pattern in listed)
    words = r"(?:(?!or\b|and\b|nor\b|no\b|without\b)[\w-]+ ){0,3}?"
    return re.compile(rf"(?:,? and|,)\s+(?={words}(?:{anything})(?!\w) {words}{STANDS.pattern})")


def label_findings(text: str) -> dict[str, int]:
    """The observations that a report's findings mention.

    Of several mentions of one observation positive counts before uncertain before negative. ``no_finding`` is 1 where
    the text denies something or calls something normal and no observation but ``support_devices`` is positive or
    uncertain, and 0 where one is. A text of which nothing is understood (empty, another language) has no label at
    all; CheXpert calls it "No Finding".

    Args:
        text: findings, or findings and impression; English.

    Returns:
        name of :data:`OBSERVATIONS` to 1 (positive), 0 (negative) or -1 (uncertain), in their order; what is not
        mentioned is absent.
    """
    found: dict[str, set[int]] = {}
    normal = False
    for clause in _clauses(text):
        asked = _asked(clause)
        normal = normal or (asked is None and NORMAL_TEXT.search(clause) is not None)
        for said in (*_mentioned(clause), *_states(clause), *_denied(clause)):
            doubted = asked is not None and said.start >= asked
            found.setdefault(said.observation, set()).add(UNCERTAIN if doubted else said.value)
    values = {name: next(v for v in (POSITIVE, UNCERTAIN, NEGATIVE) if v in seen) for name, seen in found.items()}
    if any(value != NEGATIVE for name, value in values.items() if name != "support_devices"):
        values["no_finding"] = NEGATIVE
    elif normal or NEGATIVE in values.values():
        values["no_finding"] = POSITIVE
    return {name: values[name] for name in OBSERVATIONS if name in values}


def _clauses(text: str) -> Iterator[str]:
    """Lower-case clauses in which a cue may reach a mention."""
    plain = QUERY.sub(" query ", _with_ends(unicodedata.normalize("NFKC", text).translate(DASHES)))
    plain = CONTRACTED.sub(r"\1 not", plain.lower().replace("vs.", "vs"))
    for sentence in SENTENCE.split(plain):
        for part in _parts(sentence.split()):
            start = 0
            for cut in sorted(_cuts(part), key=lambda cut: cut.start()):
                if cut.start() >= start and SAYS_SOMETHING.search(part, start, cut.start()):
                    yield part[start : cut.start()].strip()
                    start = cut.end()
            if rest := part[start:].strip(" ,"):
                yield rest


def _with_ends(text: str) -> str:
    """The text with a semicolon where a line ends a statement, as in a list without full stops.

    That is where the next line begins with a capital, or in a text of one letter case where the line is short, and
    where its last word does not ask for more.
    """
    lines = text.splitlines()
    one_case = text in (text.upper(), text.lower())
    for at, (line, following) in enumerate(pairwise(lines)):
        listed = len(line) < SHORT and not ADJECTIVE.search(line)
        if (listed if one_case else following.lstrip()[:1].isupper()) and not UNFINISHED.search(line):
            lines[at] += ";"
    return "\n".join(lines)


def _cuts(part: str) -> Iterator[re.Match[str]]:
    """Where a new statement begins within a sentence."""
    yield from NEW_SUBJECT.finditer(part)
    if STANDS.search(part):
        yield from phrases().standing.finditer(part)


def _asked(clause: str) -> int | None:
    """Where the part of a clause begins that a question mark at its end doubts; None without one."""
    if not clause.endswith("?"):
        return None
    if QUESTION.match(clause) or OR.search(clause):
        return 0
    return max(clause.rfind("("), clause.rfind(",")) + 1


def _parts(words: list[str]) -> Iterator[str]:
    """A sentence cut where a new clause begins, and after :data:`LONGEST` words: no cue reaches further."""
    for start in range(0, len(words), LONGEST):
        yield from phrases().clauses.split(" ".join(words[start : start + LONGEST]))


def _mentioned(clause: str) -> Iterator[Said]:
    mentions = sorted(_find_mentions(clause))
    if not mentions:
        return
    cues = _find_cues(clause)
    others = [Mention(*other.span(), "") for other in phrases().others.finditer(clause)]
    for mention in mentions:
        value = _assertion(clause, mention, cues)
        if value == POSITIVE and _open_choice(clause, mention, [*mentions, *others], cues):
            value = UNCERTAIN
        if value is not None:
            yield Said(mention.start, mention.observation, value)


def _find_mentions(clause: str) -> Iterator[Mention]:
    known = phrases()
    for observation, pattern in known.mentions.items():
        spans = [match.span() for match in pattern.finditer(clause)]
        if not spans:
            continue
        excluded = known.unmentions.get(observation)
        outside = [match.span() for match in excluded.finditer(clause)] if excluded else []
        for start, end in spans:
            if not any(start < stop and begin < end for begin, stop in outside):
                yield Mention(start, end, observation)


def _find_cues(clause: str) -> list[Cue]:
    found = ((match.span(), str(match.lastgroup).partition("_")) for match in phrases().cues.finditer(clause))
    return [Cue(*span, said, side) for span, (said, _, side) in found]


def _assertion(clause: str, mention: Mention, cues: list[Cue]) -> int | None:
    """Positive, or what the nearest cue that reaches the mention says; None where it is no statement about now.

    Of two cues equally near a denial wins over a doubt; a doubt may be denied ("nothing concerning for pneumonia").
    """
    speaking = [cue for cue in cues if cue.said in VALUES]
    for cue in sorted(speaking, key=lambda cue: (_distance(cue, mention), PRECEDENCE.index(cue.said))):
        if cue.end <= mention.start and cue.side != "post":
            gap, rest = clause[cue.end : mention.start], clause[mention.end :]
            reaches = _reaches_forward(gap, rest, cue.said, clause[cue.start : cue.end])
        else:
            reaches = cue.start >= mention.end and cue.side != "pre" and _reaches_back(clause[mention.end : cue.start])
        if reaches and cue.said == "uncertain" and DENIABLE.match(clause, cue.start, cue.end):
            denials = [other for other in speaking if other.said == "negative"]
            denied = _assertion(clause, Mention(cue.start, cue.end, mention.observation), denials) == NEGATIVE
            return NEGATIVE if denied else UNCERTAIN
        if reaches:
            return VALUES[cue.said]
    return POSITIVE


def _distance(cue: Cue, mention: Mention) -> int:
    return max(mention.start - cue.end, cue.start - mention.end)


def _reaches_forward(gap: str, rest: str, said: str, cue: str) -> bool:
    """Whether a cue governs a mention after ``gap``: lists joined by commas, or, and; not a new statement."""
    if said != "negative":
        listed = OR.search(gap + rest) or LISTING.search(cue)
        return not NEW_STATEMENT.search(gap) and ("," not in gap or listed is not None)
    if CAUSE.search(gap):
        return False
    verb = VERB.search(gap)
    if verb and re.search(r",|\band\b", gap[verb.end() :]):
        return False
    item = NEW_ITEM.search(gap)
    return item is None or OR.search(gap[item.end() :] + rest) is not None


def _reaches_back(gap: str) -> bool:
    if len(gap) > NEAR or VERB.search(gap) or NEW_STATEMENT.search(gap):
        return False
    return "," not in gap.strip(" ,") or re.search(r"\b(?:and|or)\b", gap) is not None


def _open_choice(clause: str, mention: Mention, mentions: list[Mention], cues: list[Cue]) -> bool:
    """Whether the mention stands in an "A or B" with another thing, unless "no change in A or B"."""
    if any(cue.said == "pseudo" and cue.end <= mention.start for cue in cues):
        return False
    for other in mentions:
        first, second = sorted((mention, other))
        if other.observation != mention.observation and OR_BETWEEN.fullmatch(clause[first.end : second.start]):
            return True
    return False


def _states(clause: str) -> Iterator[Said]:
    """Observations that the state of heart or mediastinum implies: ``"heart size is normal"``."""
    known = phrases()
    subjects = [(name, match) for name, pattern in known.structures.items() for match in pattern.finditer(clause)]
    if not subjects:
        return
    states = list(known.states.finditer(clause))
    cues = _find_cues(clause)
    for name, subject in subjects:
        state = _state_of(clause, subject, states)
        if state is None or state.lastgroup == "unknown":
            continue
        if state.lastgroup == "normal":
            yield Said(subject.start(), name, NEGATIVE)
        elif state.lastgroup == "borderline":
            yield Said(subject.start(), name, UNCERTAIN)
        else:
            value = _assertion(clause, Mention(*state.span(), name), cues)
            if value is not None:
                yield Said(subject.start(), name, value)


def _state_of(clause: str, subject: re.Match[str], states: list[re.Match[str]]) -> re.Match[str] | None:
    """The state word that belongs to the subject: just before it, else after it, else before it across "and"."""
    before = [state for state in states if state.end() <= subject.start() and state.lastgroup != "unknown"]
    after = [state for state in states if state.start() >= subject.end()]
    gap = clause[before[-1].end() : subject.start()] if before else ""
    near = before and not VERB.search(gap) and "," not in gap
    if near and len(gap.split()) <= 5 and not re.search(r"\b(?:and|with)\b", gap):
        return before[-1]
    if after:
        first = after[0]
        if first.lastgroup == "unknown" and len(after) > 1:
            between = clause[first.end() : after[1].start()]
            if len(between.split()) <= 3 and "with" not in between:
                first = after[1]
        passed = clause[subject.end() : first.start()]
        if len(passed.split()) <= 14 and " with " not in passed:
            return first
    return before[-1] if near and len(gap.split()) <= 8 else None


def _denied(clause: str) -> Iterator[Said]:
    for observation, pattern in phrases().negatives.items():
        if match := pattern.search(clause):
            yield Said(match.start(), observation, NEGATIVE)
