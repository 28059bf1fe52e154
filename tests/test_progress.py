"""Bars in a log: each tells its end, and those inside another one are silent."""

import pytest

from raddino import progress
from raddino.progress import about, subject


@pytest.fixture(autouse=True)
def log_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", -1.0)


def test_a_bar_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress.track("ab", "letters")) == ["a", "b"]
    assert [line.split("  ")[0] for line in capsys.readouterr().err.splitlines()][:2] == ["letters 1/2", "letters 2/2"]


def test_a_bar_inside_another_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in progress.track("ab", "outer"):
        with progress.bar("inner", total=1) as shown:
            shown.advance()
            shown.say("a word")
    with progress.bar("alone", total=1) as shown:
        shown.advance()
    said = capsys.readouterr().err
    assert "inner" not in said
    assert "a word" in said
    assert "outer 2/2" in said
    assert "alone 1/1" in said


def test_bars_call_an_encoder_by_its_display_name_and_forget_it_after_a_failure() -> None:
    assert subject("hog") == "hog"
    with about("trained"):
        with pytest.raises(KeyError, match="inner"), about("inner"):
            raise KeyError(subject("hog"))
        assert subject("hog") == "trained"
    assert subject("hog") == "hog"
