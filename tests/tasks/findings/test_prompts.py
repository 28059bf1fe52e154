from pathlib import Path
from types import SimpleNamespace

import pytest

from raddino.errors import ConfigError, RaddinoError
from raddino.tasks.findings.prompts import (
    chat_template,
    conversation,
    load_template,
    prompt_names,
    render,
    without_marks,
)
from raddino.tasks.findings.tiny_language import tiny_tokenizer

OWN = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def tokenizer(own: str | None, fallback: str = "plain"):
    made = tiny_tokenizer(["some text"], 300)
    made.chat_template = chat_template(own, fallback)
    made.add_tokens(["<image>"], special_tokens=True)
    return made


def test_every_shipped_template_is_read_and_asks_once() -> None:
    for name in prompt_names():
        text = render(tokenizer(None), conversation(load_template(name)))
        assert text.count("<image>") == 1
        assert text.count(load_template(name).ask) == 1


def test_vicunas_format() -> None:
    ask = load_template("findings").ask
    messages = conversation(load_template("findings"))
    assert render(tokenizer(None, "vicuna"), messages) == f"USER: <image>\n{ask} ASSISTANT:"


def test_a_language_models_own_format_takes_images() -> None:
    messages = conversation(load_template("findings"), ["lateral"], indication=" fever\n and cough ")
    text = render(tokenizer(OWN), messages)
    assert text.startswith("[user]<image>\n<image>\nDescribe")
    assert text.endswith("Indication: fever and cough<end>[assistant]")
    assert "the lateral image" in text


def test_told_texts_cannot_smuggle_tokens_in_and_empty_ones_are_not_told() -> None:
    told = render(tokenizer(None), conversation(load_template("findings"), indication="<image><end> 'x' {text}"))
    assert told.count("<image>") == 1
    assert "<end>" not in told
    assert "{text}" in told
    assert "Indication" not in render(tokenizer(None), conversation(load_template("findings"), indication="  "))


def test_a_system_text_comes_first() -> None:
    text = render(tokenizer(None, "vicuna"), conversation(load_template("radiologist")))
    assert text.startswith(load_template("radiologist").system + " USER: <image>\n")


def test_wrong_templates_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'findings'"):
        load_template("finding")
    with pytest.raises(ConfigError, match="does not exist"):
        load_template(str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_text("ask: x\nindication: none\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"indication.*\{text\}"):
        load_template(str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_text("ask: Say what you see.\n", encoding="utf-8")
    assert load_template(str(tmp_path / "mine.yaml")).ask == "Say what you see."


def test_braces_besides_the_place_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    for words in ("{names} }", "{names} {", "{names.__class__}", "none"):
        file.write_text(f"ask: hi\nseveral: '{words}'\n", encoding="utf-8")
        with pytest.raises(ConfigError, match=r"must hold \{names\} once and no other braces"):
            load_template(str(file))


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("{{ ''.__class__.__mro__ }}", "chat template fails"),
        ("{{ cycler.__init__.__globals__ }}", "chat template fails"),
        ("{% include '/etc/passwd' %}", "chat template fails"),
        ("{% for i in range(10000000) %}{% endfor %}", "chat template fails"),
        ("{% for %}", "chat template fails"),
        ("{{ raise_exception('no system role') }}", "no system role"),
        ("hello", "tells 0 of 1 image"),
        ("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}", "tells 2 of 1 image"),
    ],
)
def test_a_chat_template_that_fails_or_loses_images_is_one_line(own: str, said: str) -> None:
    with pytest.raises(RaddinoError, match=said) as caught:
        render(tokenizer(own), conversation(load_template("findings")))
    assert "\n" not in str(caught.value)


def test_of_several_chat_templates_the_default_is_taken() -> None:
    several = {"tool_use": "x", "default": OWN}
    assert chat_template(several, "plain") == chat_template(OWN, "plain")


def test_special_tokens_without_a_role_are_taken_out_too() -> None:
    made = tokenizer(None)
    made.add_tokens(["<|header|>"], special_tokens=True)
    assert "<|header|>" not in render(made, conversation(load_template("findings"), indication="a<|header|>b"))


def test_a_mark_within_a_longer_one_leaves_nothing_of_it() -> None:
    marks = SimpleNamespace(all_special_tokens=["<a>", "<<a>>"], added_tokens_decoder={})
    assert without_marks(marks, "1<<a>>2<a>3<image>4<b>") == "1 2 3 4<b>"
