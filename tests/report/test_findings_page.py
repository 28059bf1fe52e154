from pathlib import Path

import pandas as pd
import pytest

from raddino.errors import RaddinoError
from raddino.report.findings_page import choose, compare, pairs

from .fabricated import MaskedCorpus, write_models

WORDS = ("effusion", "fracture", "nodule")


def label(text: str) -> dict[str, int]:
    """Words after "no" are negative."""
    found = {}
    for word in WORDS:
        if word in text.lower():
            found[word] = 0 if f"no {word}" in text.lower() else 1
    return found


def test_sentences_say_what_matches_lacks_and_was_invented() -> None:
    reference, hypothesis = compare(
        "Small effusion. A fracture of rib 3. Heart normal.",
        "Effusion on the left.\nA nodule and an effusion. No fracture.",
        label,
    )
    assert [one.kind for one in reference] == ["matched", "missed", ""]
    assert [one.kind for one in hypothesis] == ["matched", "invented", ""]
    assert hypothesis[1].findings == (("matched", "effusion"), ("invented", "nodule"))
    assert reference[1].findings == (("missed", "fracture"),)
    assert reference[2].text == "Heart normal."


def test_a_sentence_does_not_assert_what_the_whole_text_denies() -> None:
    _, hypothesis = compare("Effusion.", "Effusion before. Now no effusion.", label)
    assert [one.kind for one in hypothesis] == ["", ""]


def test_empty_texts_and_decimals() -> None:
    assert compare("", "   ", label) == ([], [])
    (only,), _ = compare("An effusion of 2.5 cm.", "", label)
    assert only.kind == "missed"
    assert only.text == "An effusion of 2.5 cm."


@pytest.mark.parametrize(("n", "each"), [(0, 8), (1, 8), (2, 8), (3, 8), (10, 2), (24, 8), (500, 8)])
def test_no_report_is_shown_twice(n: int, each: int) -> None:
    chosen = choose(n, each)
    positions = [at for _, at in chosen]
    assert len(set(positions)) == len(positions)
    assert all(0 <= at < n for at in positions)
    assert positions == sorted(positions)
    if n >= 3 * each:
        assert len(chosen) == 3 * each
        assert chosen[0] == ("best", 0)
        assert chosen[-1] == ("worst", n - 1)
        middle = [at for place, at in chosen if place == "median"]
        assert abs(sum(middle) / len(middle) - (n - 1) / 2) <= 1


def test_pairs_are_ranked_by_the_metric(tmp_path: Path) -> None:
    corpus = MaskedCorpus()
    write_models(tmp_path, corpus)
    found = pairs(tmp_path / "models" / "findings-text" / "trained", corpus, 2)
    assert [len(found[place]) for place in ("best", "median", "worst")] == [2, 2, 2]
    assert found["best"][0].score == "1.00"
    assert found["worst"][-1].score == "0.00"
    assert all(one.image.startswith("data:image/jpeg") for one in found["best"])


def test_texts_of_credentialed_sources_are_never_shown(tmp_path: Path) -> None:
    write_models(tmp_path, MaskedCorpus())
    folder = tmp_path / "models" / "findings-text" / "trained"
    assert pairs(folder, MaskedCorpus(source="mimic-cxr"), 2) == {}
    mixed = MaskedCorpus()
    mixed.manifest.loc[::2, "source"] = "mimic-cxr"
    closed = set(mixed.manifest["id"][::2])
    table = pd.read_parquet(folder / "reports.parquet")
    table.loc[table["id"].isin(closed), ["reference", "hypothesis"]] = "forbidden"
    table.to_parquet(folder / "reports.parquet")
    shown = pairs(folder, mixed, 8)
    assert shown
    assert not any("forbidden" in one.text for group in shown.values() for pair in group for one in pair.reference)


@pytest.mark.parametrize("content", [None, b"no parquet", pd.DataFrame({"id": ["a"]})])
def test_a_damaged_table_is_refused(tmp_path: Path, content: object) -> None:
    file = tmp_path / "reports.parquet"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, pd.DataFrame):
        content.to_parquet(file)
    with pytest.raises(RaddinoError, match=r"is missing|is damaged|lacks the column"):
        pairs(tmp_path, MaskedCorpus(), 2)
