"""What the language model is asked, as data: templates in ``prompts/*.yaml``, chat formats in ``prompts/formats``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from raddino.config import Config, read_yaml, validate
from raddino.errors import ConfigError, RaddinoError, did_you_mean

PROMPTS = Path(__file__).parent / "prompts"
IMAGE = "<image>"
LONGEST = 2000
"""Characters of an indication or comparison that are told."""
NAMES = {"lateral": "the lateral image", "prior": "the previous frontal image"}


class Template(Config):
    """The words of a prompt.

    Attributes:
        system: told before everything; empty for nothing.
        ask: the request.
        several: told when there are further images; holds ``{names}``.
        indication, comparison: how the corpus's texts are told; hold ``{text}``.
    """

    system: str = ""
    ask: str = Field(min_length=1)
    several: str = "{names}"
    indication: str = "{text}"
    comparison: str = "{text}"

    @field_validator("several", "indication", "comparison")
    @classmethod
    def _holds(cls, words: str, info: Any) -> str:
        place = "{names}" if info.field_name == "several" else "{text}"
        if words.count(place) != 1 or words.count("{") != 1 or words.count("}") != 1:
            raise ValueError(f"must hold {place} once and no other braces")
        return words


def prompt_names() -> list[str]:
    """Names that :func:`load_template` takes."""
    return sorted(path.stem for path in PROMPTS.glob("*.yaml"))


def load_template(name: str) -> Template:
    """A template by name, or from a YAML file.

    Raises:
        ConfigError: no such name or file, or one that is not a template.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else PROMPTS / f"{name}.yaml"
    if path.parent == PROMPTS and path.stem not in prompt_names():
        hint = did_you_mean(name, prompt_names())
        raise ConfigError(f"unknown prompt {name!r}.{hint} Known: {', '.join(prompt_names())}, or a .yaml file.")
    return validate(Template, read_yaml(path))


def conversation(
    template: Template, others: Sequence[str] = (), indication: str | None = None, comparison: str | None = None
) -> list[dict[str, Any]]:
    """Messages in the form that Transformers' multimodal processors take: images first, then the words.

    Args:
        template: the words.
        others: kinds of the images behind the frontal one.
        indication, comparison: texts of the corpus; empty ones are not told, long ones are cut.
    """
    words = [template.ask]
    if others:
        words.append(template.several.replace("{names}", ", ".join(NAMES[kind] for kind in others)))
    for pattern, text in ((template.indication, indication), (template.comparison, comparison)):
        if told := " ".join((text or "").split())[:LONGEST]:
            words.append(pattern.replace("{text}", told))
    content = [{"type": "image"}] * (1 + len(others)) + [{"type": "text", "text": " ".join(words)}]
    system = [{"role": "system", "content": [{"type": "text", "text": template.system}]}] if template.system else []
    return [*system, {"role": "user", "content": content}]


def chat_template(own: str | dict[str, str] | None, fallback: str) -> str:
    """A chat template (Jinja) that takes messages with images.

    Args:
        own: the language model's template, which takes texts only; of several the one named ``default``; None where it
            has none.
        fallback: format used then, a name of ``prompts/formats``: ``"vicuna"`` or ``"plain"``.
    """
    formats = PROMPTS / "formats"
    own = own.get("default") if isinstance(own, dict) else own
    flat = (formats / "flat.jinja").read_text(encoding="utf-8").rstrip("\n")
    return flat + (own or (formats / f"{fallback}.jinja").read_text(encoding="utf-8").rstrip("\n"))


def render(tokenizer: Any, messages: list[dict[str, Any]]) -> str:
    """The prompt as one string with a single ``<image>`` an image; ends where the answer begins.

    Marks that the tokenizer reads as more than text are taken out of what the messages tell. Transformers runs chat
    templates, which come with the language model, in Jinja's sandbox.

    Raises:
        RaddinoError: the chat template fails, or does not tell every image once.
    """
    from jinja2 import TemplateError

    clean = [
        {
            **message,
            "content": [
                {**part, "text": without_marks(tokenizer, part["text"])} if part["type"] == "text" else part
                for part in message["content"]
            ],
        }
        for message in messages
    ]
    try:
        prompt = tokenizer.apply_chat_template(clean, tokenize=False, add_generation_prompt=True)
    except (TemplateError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
        said = " ".join(str(error).split())[:120]
        raise RaddinoError(f"the language model's chat template fails ({said}): take another model or prompt") from None
    images = sum(part["type"] == "image" for message in messages for part in message["content"])
    if prompt.count(IMAGE) != images:
        raise RaddinoError(
            f"the language model's chat template tells {prompt.count(IMAGE)} of {images} image(s): take another model"
        )
    return prompt


def without_marks(tokenizer: Any, text: str) -> str:
    """``text`` with a blank for every mark that the tokenizer reads as more than text, ``<image>`` among them."""
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    for mark in sorted({*map(str, tokenizer.all_special_tokens), *special, IMAGE}, key=lambda mark: (-len(mark), mark)):
        text = text.replace(mark, " ")
    return text
