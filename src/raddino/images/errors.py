"""Why a file does not become an image, in words of ours: never a path, a name or a library's message."""

from raddino.errors import RaddinoError


class ImageError(RaddinoError):
    """Base of both; ``reason`` is safe to store beside a keyed hash."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnreadableImage(ImageError):
    """The file is damaged, truncated, of an unknown format, or breaks a limit."""


class NotARadiograph(ImageError):
    """The file reads well and is set aside: colour, another modality, another body part, several frames."""
