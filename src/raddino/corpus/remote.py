"""A corpus behind a URL: its small files are kept in a folder of the user's cache, its shards are read in ranges."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from raddino.corpus.shards import SHARDS
from raddino.errors import RaddinoError
from raddino.files import draft_of, owner_only, sha256
from raddino.progress import track
from raddino.storage import download, remote_sizes, shown_url, upload

INFO, MANIFEST, SKIPPED = "corpus.json", "manifest.parquet", "skipped.csv"


def folder_of(url: str, kind: str) -> Path:
    """``$XDG_CACHE_HOME/raddino/KIND/…`` (``~/.cache``), a folder for each URL; it says nothing of the URL."""
    base = os.environ.get("XDG_CACHE_HOME")
    cache = Path(base) if base else Path.home() / ".cache"
    return cache / "raddino" / kind / hashlib.sha256(url.encode()).hexdigest()[:20]


def mirror(url: str) -> tuple[Path, dict[str, int]]:
    """The folder that holds ``corpus.json`` and the manifest of a corpus as they now are, and its shards' sizes.

    Only its owner can open it. What is derived from the corpus, such as cached features, is put there too.

    Raises:
        RaddinoError: there is no corpus, or it cannot be reached.
    """
    sizes = remote_sizes(url)
    if INFO not in sizes:
        raise RaddinoError(f"{shown_url(url)} is no corpus (no {INFO}); make one with: raddino prepare IMAGES --out …")
    folder = folder_of(url, "corpora")
    with owner_only():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with draft_of(folder / INFO) as info:
                _fetch(url, INFO, info)
                changed = not (folder / INFO).is_file() or sha256(folder / INFO) != sha256(info)
                if (changed or not (folder / MANIFEST).is_file()) and MANIFEST in sizes:
                    with draft_of(folder / MANIFEST) as manifest:
                        _fetch(url, MANIFEST, manifest)
        except FileNotFoundError:
            raise RaddinoError(f"{shown_url(url)} changed as it was opened: open it again") from None
    return folder, {name: size for name, size in sizes.items() if name.startswith(f"{SHARDS}/")}


def publish(folder: Path, url: str) -> None:
    """Copy a corpus to a URL, ``corpus.json`` last of all, so that no half corpus opens; then remove the folder.

    Raises:
        RaddinoError: the URL cannot be written; the folder stays, and the same command goes on from there.
    """
    shards = sorted(f"{SHARDS}/{file.name}" for file in (folder / SHARDS).iterdir())
    for name in track([*shards, MANIFEST, SKIPPED, INFO], "upload"):
        try:
            upload(folder / name, f"{url}/{name}")
        except OSError as error:
            raise RaddinoError(
                f"{shown_url(url)} cannot be written ({error}): see to your rights and the network, and run the same "
                "command again to continue"
            ) from None
    shutil.rmtree(folder)


def _fetch(url: str, name: str, draft: Path) -> None:
    with draft.open("wb") as stream:
        try:
            download(f"{url}/{name}", stream)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise RaddinoError(f"{shown_url(url)}: {name} cannot be fetched ({error}): run it again") from None
