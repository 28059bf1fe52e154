"""From a hash back to the file, for whoever holds the files and the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raddino.corpus.manifest import canonical_items, read_items
from raddino.corpus.sources import split_spec
from raddino.errors import RaddinoError
from raddino.images.phi import keyed_hash, load_key


def find(
    images: str | Path,
    hash: str,
    *,
    columns: dict[str, str] | None = None,
    source: str | None = None,
    key: str | None = None,
    source_options: dict[str, Any] | None = None,
) -> str:
    """The location behind an ``id`` of a corpus's manifest or a ``hash`` of its ``skipped.csv``.

    Args:
        images: as it was given to ``prepare``, like the rest.
        hash: 20 hex digits.
        columns: our column to the manifest's.
        source: the data set's name where the manifest gives none.
        key: for hashing identifiers, see :func:`raddino.images.phi.load_key`.
        source_options: of the data set that ``NAME:FOLDER`` names.

    Returns:
        a path, a URL, or ``ARCHIVE::MEMBER``.

    Raises:
        RaddinoError: no image has it, with this key.
    """
    if spec := split_spec(images):
        table, _ = canonical_items(spec[0].read(spec[1], **(source_options or {})), spec[1], columns, None)
    else:
        table, _ = read_items(images, columns, source)
    key = load_key(key)
    for name, origin, file in zip(table["name"], table["source"], table["file"], strict=True):
        if hash == keyed_hash(key, "image", origin, name or ""):
            return file
    raise RaddinoError(f"no image of {images} has the hash {hash}: give the images and the key of that corpus")
