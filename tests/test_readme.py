"""What README and docs write as commands is what the command line takes; nothing is run."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from raddino import arguments
from raddino.benchmark.analyses.base import ANALYSES
from raddino.benchmark.suite import suite_names
from raddino.cli import app
from raddino.config import load_config, preset_names
from raddino.corpus.sources.base import SOURCES
from raddino.encoders import export
from raddino.encoders.load import known_encoders
from raddino.errors import RaddinoError
from raddino.sample import generate
from raddino.study.settings import study_names
from raddino.tasks.probes import PROBES
from raddino.tasks.segmentation import segment
from raddino.training.pretrain import PretrainConfig

ROOT = Path(__file__).parents[1]
UsageError = typer.BadParameter.__base__
"""Of the click that typer uses, which may be its own copy."""
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands
FORMATS = {"sample": generate.FORMATS, "segment": segment.FORMATS, "export": export.FORMATS}
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
SPAN = re.compile(r"`([^`]+)`")
CALL = re.compile(r"^(?:\w+=\S+ )*(?:\S*/)?raddino (.*)|.* -m raddino(?:\.cli)? (.*)")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
ELSEWHERE = re.compile(r"^(?:python|\S*benchmarks/|pip|hf|torchrun|sbatch|ray|git|make)\b")
REST = "…"
"""Stands for what a page leaves out of a command or a value."""


def parts(page):
    """Lines of the fenced blocks, continued ones joined; and the code spans outside of them, on one line each."""
    text = page.read_text(encoding="utf-8")
    lines = "\n".join(FENCE.findall(text)).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines], [" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text))]


def calls(page):
    """Commands behind ``raddino``; a command's bare name in a sentence is a mention."""
    lines, spans = parts(page)
    found = [(match[1] or match[2]) for text in [*lines, *spans] if (match := CALL.match(text))]
    return [call for call in found if call in COMMANDS or " " in call]


def parse(call):
    """The values of a command, by the parser that the command line has; ``N`` stands for a number.

    Raises:
        UsageError, RaddinoError: what a user would be told.
    """
    name, *words = shlex.split(call, comments=True)
    if name not in COMMANDS:
        raise RaddinoError(f"no command {name!r}")
    given = ["1" if word == "N" else word for at, word in enumerate(words) if word != REST or words[at - 1][0] == "-"]
    if not given:
        return {}
    try:
        values = COMMANDS[name].make_context(name, list(given)).params
    except UsageError as error:
        if REST in call and type(error).__name__ == "MissingParameter":
            return {}
        raise
    check(name, values)
    return values


def check(command, values):
    """The values that are words of ours. Raises RaddinoError."""
    known("preset", values.get("preset"), preset_names(), ".yaml")
    known("suite", values.get("suite"), suite_names(), ".yaml")
    known("probe", values.get("probe") if command == "evaluate" else None, PROBES)
    known("format", values.get("format"), FORMATS.get(command, ()))
    for one in arguments.analyses(values.get("analyses")) or ():
        known("analyses", one, ANALYSES)
    specs = [values.get("encoders"), values.get("encoder")]
    for spec in ",".join(spec for spec in specs if isinstance(spec, str)).split(","):
        name = spec.rpartition("=")[2].partition(":")[0]
        known("encoder", name or None, [*known_encoders(), "SPEC"], "/")
    arguments.cross_validation(values.get("cross_validate"))
    if command == "evaluate":
        arguments.settings(values.get("set_"))
    if command == "study":
        known("study", values["name"], study_names(), ".yaml")
    if command == "pretrain":
        load_config(PretrainConfig, values["preset"], values["set_"])
    source, colon, place = str(values.get("images")).partition(":")
    if colon and not place.startswith("//"):
        known("source", source, SOURCES)
        SOURCES[source].options.model_validate(arguments.pairs("--option", values["option"], "a=b"))


def known(what, value, names, path=None):
    if value is not None and value not in names and REST not in value and not (path and path in value):
        raise RaddinoError(f"{what} {value!r} is not known")


def flags(command=None):
    of = COMMANDS.values() if command is None else [COMMANDS[command]]
    named = (parameter for one in of for parameter in one.params)
    return {"--help"} | {flag for parameter in named for flag in (*parameter.opts, *parameter.secondary_opts)}


def flags_of_tools():
    """Options of the benchmarks, the launch files and the tests' own commands."""
    places = ("benchmarks/*.py", "launch/*.py", "tests/*/__main__.py", "tests/soak.py")
    tools = [tool for place in places for tool in ROOT.glob(place)]
    return {flag for tool in tools for flag in re.findall(r'add_argument\(\s*"(--[\w-]+)', tool.read_text("utf-8"))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_are_taken(page):
    refused = []
    for call in calls(page):
        try:
            parse(call)
        except (UsageError, RaddinoError) as error:
            refused.append(f"raddino {call}: {error}")
    assert refused == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_in_sentences_exist(page):
    every = flags() | flags_of_tools()
    for span in parts(page)[1]:
        first = span.removeprefix("raddino ").partition(" ")[0]
        if not ELSEWHERE.match(span):
            assert set(FLAG.findall(span)) <= (flags(first) if first in COMMANDS else every), span


def test_commands_of_the_demo_are_taken():
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    found = [match[1] for line in lines if (match := CALL.match(re.sub(r"\$\((\w+)\)", r"\1", line.strip())))]
    assert len(found) == 5
    for call in found:
        parse(call)


def test_the_journey_is_seen():
    seen = {call.partition(" ")[0] for call in calls(ROOT / "README.md") if " " in call}
    assert seen >= {"prepare", "pretrain", "embed", "evaluate", "segment", "predict", "compare", "export"}


@pytest.mark.parametrize(
    "call",
    [
        "evaluate corpus/ --suit open-cxr --encoders hog --out r",
        "evaluate corpus/ --suite open-xcr --encoders hog --out r",
        "evaluate corpus/ --encoders hogg --out r",
        "evaluate corpus/ --encoders hog",
        "evaluate corpus/ --encoders hog --out r --analyses all,subgruops",
        "evaluate corpus/ --encoders hog --out r --cross-validate 5",
        "evaluate corpus/ --encoders hog --out r --resamples many",
        "evaluate corpus/ --encoders hog --nout r …",
        "pretrain corpus/ --out run --preset small-bach",
        "pretrain corpus/ --out run --set schedule.lrr=1",
        "study scalling --out o",
        "study scaling --out o --plan",
        "prepare nhi:/data --out c",
        "prepare vindr-cxr:/data --out c --option reader=any",
        "segment x/ --model m --out o --format dicom",
        "compare A/",
        "export run/encoder --format onnx --out o --in p",
        "exprot run/encoder",
    ],
)
def test_wrong_commands_are_seen(call):
    with pytest.raises((UsageError, RaddinoError, ValueError)):
        parse(call)
