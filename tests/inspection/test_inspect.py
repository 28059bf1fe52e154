"""Findings of several corpora in one table, one CSV, one summary; and the command line."""

import shutil
from contextlib import suppress
from types import MappingProxyType

import pandas as pd
import pytest

from packed_corpus import KEY, pack
from raddino.errors import ConfigError, RaddinoError
from raddino.inspection.base import CHECKS, Finding
from raddino.inspection.inspect import inspect, summary, write_csv
from raddino.inspection.text import ENGINES
from raddino.inspection.text_regions import Region


class Bright:
    """Finds images brighter than 127, and pairs each with the first."""

    name, version = "bright", 1
    reasons = MappingProxyType({"dim": ("note", "Dim"), "bright": ("error", "Bright")})

    def measure(self, images):
        return [{"mean": float(image.mean())} for image in images]

    def judge(self, manifest, measured):
        for row, mean in enumerate(measured["mean"]):
            if mean > 127.5:
                yield Finding(row, "bright", probability=mean / 256, said="a; b", partner=0)
            else:
                yield Finding(row, "dim")


@pytest.fixture
def found(corpus, tmp_path, noise, monkeypatch):
    monkeypatch.setitem(CHECKS._things, "bright", Bright())
    other = pack(tmp_path / "other", [image[::-1] for image in noise[:3]])
    return inspect([corpus, other], checks=["bright"], workers=1)


def test_rows_of_several_corpora_are_told_apart(found):
    for row, (number, at) in enumerate(zip(found.manifest["corpus"], found.manifest["row"], strict=True)):
        bright = found.corpora[number].read(at).mean() > 127.5
        assert bright == (row in {one.row for one in found.of("bright")})
    assert found.manifest["corpus"].tolist() == [0] * 12 + [1] * 3


def test_the_gravest_stand_first(found):
    reasons = [one.reason for one in found.findings]
    assert reasons == sorted(reasons, key=["bright", "dim"].index)
    sure = [one.probability for one in found.of("bright")]
    assert sure == sorted(sure, reverse=True)
    assert found.worst == "error"


def test_the_table_has_a_row_an_image(found, tmp_path):
    table = pd.read_csv(write_csv(found, tmp_path / "inspect.csv"), keep_default_na=False)
    assert table["id"].tolist() == found.manifest["id"].tolist()
    assert set(table["corpus"]) == {"corpus"}
    bright = table[table["reasons"] == "bright"]
    assert set(bright["partners"]) == {found.manifest["id"][0]}
    assert set(bright["notes"]) == {"a, b"}  # the sign between parts
    assert len(bright) == len(found.of("bright"))
    assert set(table["reasons"]) == {"bright", "dim"}


def test_the_summary_counts_images(found):
    said = summary(found)
    assert said.startswith("15 images, 15 images with a finding")
    assert f"error   {len(found.of('bright')):>8}" in said


@pytest.mark.parametrize("corpora", [0, 2])
def test_none_and_the_same_twice_are_refused(corpus, corpora):
    with pytest.raises(ConfigError, match=r"nothing to inspect|given twice"):
        inspect([corpus] * corpora)


def test_an_unknown_check_gets_a_suggestion(corpus):
    with pytest.raises(RaddinoError, match="Did you mean 'exposure'"):
        inspect([corpus], checks=["exposur"])


def test_a_reason_that_the_check_does_not_name_is_a_fault(corpus, monkeypatch):
    wrong = Bright()
    wrong.reasons = {"dim": ("note", "Dim")}
    monkeypatch.setitem(CHECKS._things, "bright", wrong)
    with pytest.raises(RaddinoError, match="none of its reasons"):
        inspect([corpus], checks=["bright"], workers=1)


def test_command(corpus, capsys, monkeypatch, tmp_path):
    from raddino import cli

    def run(*words):
        monkeypatch.setattr("sys.argv", ["raddino", "inspect", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code

    assert run(corpus.path, "--check", "exposure", "--workers", 1, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out/inspect.csv").is_file()
    page = tmp_path / "out/inspect.html"
    assert page.stat().st_mode & 0o077 == 0
    monkeypatch.setitem(CHECKS._things, "bright", Bright())
    assert run(corpus.path, "--check", "bright", "--workers", 1, "--strict") == 1
    assert run(corpus.path, "--check", "nothing") == 2
    assert "unknown check" in capsys.readouterr().err


def test_each_engine_of_text_has_measures_of_its_own(corpus, monkeypatch):
    seen = []
    monkeypatch.setitem(ENGINES, "both", lambda image: seen.append("both") or [Region(1, 2, 3, 4, "identifier", 0.9)])
    monkeypatch.setitem(ENGINES, "strokes", lambda image: seen.append("strokes") or [])
    for engine, found in (("strokes", 0), ("both", len(corpus)), ("strokes", 0), ("both", len(corpus))):
        inspected = inspect([corpus], checks=["text"], text_engine=engine, workers=1)
        assert len(inspected.findings) == found
    assert seen == ["strokes"] * len(corpus) + ["both"] * len(corpus)


@pytest.mark.parametrize(
    ("checks", "engine", "words"),
    [
        (["exposure"], "both", "'both' has nothing to do: give --check text too"),
        (None, "rapidocrs", "unknown text engine 'rapidocrs'. Did you mean 'rapidocr'"),
    ],
)
def test_an_engine_that_is_not_known_or_has_nothing_to_do_is_refused(corpus, checks, engine, words):
    with pytest.raises(ConfigError, match=words):
        inspect([corpus], checks=checks, text_engine=engine, workers=1)


def test_prepare_ends_with_the_same_inspection(corpus, capsys, monkeypatch, tmp_path):
    from raddino import cli

    def run(*words):
        monkeypatch.setattr("sys.argv", ["raddino", *map(str, words)])
        with suppress(SystemExit):
            cli.main()
        return capsys.readouterr().out

    monkeypatch.setenv("RADDINO_KEY", KEY)
    files, made = corpus.path.parent / "files.csv", tmp_path / "made"
    words = ["prepare", files, "--out", made, "--shorter-side", 64, "--workers", 1]
    said = run(*words, "--inspect")
    written = {path.name: path.read_bytes() for path in (made / "inspection").iterdir() if path.is_file()}
    assert set(written) == {"inspect.csv", "inspect.html", "inspection.json"}
    assert run(*words) in said
    assert said.endswith(apart := run("inspect", made, "--workers", 1))
    assert "12 images, " in apart
    assert written == {path.name: path.read_bytes() for path in (made / "inspection").iterdir() if path.is_file()}
    assert run(*words, "--inspect") == said
    shutil.rmtree(made / "inspection")
    assert run(*words, "--inspect") == said


def test_prepare_inspects_nothing_unless_it_is_asked(corpus):
    assert not (corpus.path / "inspection").exists()
