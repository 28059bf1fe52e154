"""Where published weights lie on this machine, or how to get them."""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from raddino.encoders.base import ENCODERS, Provenance
from raddino.errors import RaddinoError
from raddino.files import read_json, sha256

HUB = "https://huggingface.co/"
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
PART = re.compile(r"[\w-][\w.-]*\.safetensors")
WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".ckpt"}
RANDOM_MARKER = "random_weights.json"
"""A file of this name beside weights says that they are random, whatever their format looks like."""
RANDOM = "random weights"
"""The note in the provenance of weights that were never trained."""


@dataclass(frozen=True)
class Weights:
    """Weights that were found.

    Attributes:
        path: a folder or a file.
        revision: commit of the hub repository they come from, None elsewhere.
    """

    path: Path
    revision: str | None = None

    def file(self, *names: str) -> Path:
        """The file itself, or the first of ``names`` in the folder.

        Raises:
            RaddinoError: none of them is there.
        """
        if self.path.is_file():
            return self.path
        for name in names:
            if (self.path / name).is_file():
                return self.path / name
        raise RaddinoError(f"{self.path} holds none of {', '.join(names)}")

    def record(self, known: Provenance, *files: Path) -> Provenance:
        """What is known of a family, with this revision and the digest of the weight files that were read.

        Beside a :data:`RANDOM_MARKER` nothing was learned, and the record says only that.
        """
        if (files[0].parent / RANDOM_MARKER).is_file():
            return Provenance(sources=[], supervision="none", sha256=sha256(*files), note=RANDOM)
        return replace(known, revision=self.revision or known.revision, sha256=sha256(*files))


def weights_folder() -> Path:
    """Where weights are looked for: ``$RADDINO_WEIGHTS``, by default ``~/.cache/raddino/weights``."""
    return Path(os.environ.get("RADDINO_WEIGHTS") or Path.home() / ".cache/raddino/weights")


def find_weights(
    family: str,
    where: str | None,
    hub: str | None = None,
    patterns: tuple[str, ...] | None = None,
    url: str | None = None,
) -> Weights:
    """The weights of a family.

    Args:
        family: its registered name.
        where: folder, file or hub id that the user gave; None looks in ``weights_folder() / family`` (a folder,
            or a file of that name with a suffix of weights), then in the hub.
        hub: default hub id; None where nothing is published there.
        patterns: files of the hub repository that are needed; None is all of them.
        url: of the one file, where it is published outside a hub and may be fetched without asking.

    Raises:
        RaddinoError: they are not on this machine and cannot be fetched; says where they are published, under
            which licence, and where to put them.
    """
    if where is None:
        if (found := _placed(family)) is not None:
            return Weights(found)
    elif not where:
        raise RaddinoError(f"{family} names no place: leave out the colon, or put a folder, file or hub id after it")
    else:
        given = Path(where).expanduser()
        if given.exists():
            return Weights(given)
        if not HUB_ID.fullmatch(where):
            raise RaddinoError(f"{family}: there is no file or folder {where}")
    reason = ""
    if repository := where or hub:
        snapshot, reason = _from_hub(repository, patterns)
        if snapshot is not None:
            return Weights(snapshot, revision=snapshot.name)
    if where is None and url is not None and _from_url(url, target := weights_folder() / Path(url).name):
        return Weights(target)
    raise RaddinoError(_missing(family, where, reason))


def is_here(family: str) -> bool:
    """Whether :func:`find_weights` would find a family's default weights without a network."""
    about = ENCODERS[family]
    if not about.home or _placed(family) is not None:
        return True
    repository = about.home.removeprefix(HUB)
    return HUB_ID.fullmatch(repository) is not None and _cached(repository, None) is not None


def read_index(file: Path) -> list[str]:
    """Names of the parts that an index of weights lists, sorted; all lie beside it.

    Raises:
        RaddinoError: damaged, or naming a file elsewhere or of another format.
    """
    remedy = "fetch the weights again"
    parts = read_json(file, remedy).get("weight_map")
    beside = isinstance(parts, dict) and all(isinstance(one, str) and PART.fullmatch(one) for one in parts.values())
    if not parts or not beside:
        raise RaddinoError(f"{file} is damaged (weight_map names other than .safetensors files beside it): {remedy}")
    return sorted(set(parts.values()))


def _placed(family: str) -> Path | None:
    """What the user put into the weights folder for a family."""
    folder = weights_folder()
    places = (folder / family, *(folder / f"{family}{suffix}" for suffix in sorted(WEIGHT_SUFFIXES)))
    return next((place for place in places if place.exists()), None)


def _missing(family: str, where: str | None, reason: str) -> str:
    about = ENCODERS[family]
    root = "$RADDINO_WEIGHTS" if os.environ.get("RADDINO_WEIGHTS") else "~/.cache/raddino/weights"
    because = f" ({reason})" if reason else ""
    remedy = f"put them at {root}/{family} or say where they are: {family}:PATH"
    if where is not None:
        return f"{family}: {where} is neither on this machine nor could it be fetched from the hub{because}; {remedy}"
    gated = "; gated: accept its terms there first" if about.provenance.gated else ""
    return (
        f"{family}: its weights are not on this machine and could not be fetched{because}. They are published at "
        f"{about.home} (licence: {about.provenance.licence}{gated}); {remedy}"
    )


def _from_url(url: str, target: Path) -> bool:
    """Whether ``target`` is there after all, downloaded whole or not at all."""
    if not target.is_file():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(target), progress=False)
        except OSError:  # urllib's errors are
            return False
    return True


def _from_hub(repository: str, patterns: tuple[str, ...] | None) -> tuple[Path | None, str]:
    """Snapshot folder, its name is the commit: the cached one, else a download; or None and the reason."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    if (cached := _cached(repository, patterns)) is not None:
        return cached, ""
    try:
        snapshot = Path(snapshot_download(repository, allow_patterns=list(patterns) if patterns else None))
    except GatedRepoError:
        return None, "the hub has not granted this account access"
    except RepositoryNotFoundError:
        return None, "the hub has no such repository, or asks for a login"
    except LocalEntryNotFoundError:
        return None, "the hub cannot be reached"
    except Exception as error:  # network libraries and disks fail in many ways
        return None, type(error).__name__
    return (snapshot, "") if _whole(snapshot, patterns) else (None, "no whole set of weights is there")


def _cached(repository: str, patterns: tuple[str, ...] | None) -> Path | None:
    """Snapshot in the hub's local cache, where it holds weights."""
    from huggingface_hub import snapshot_download

    wanted = list(patterns) if patterns else None
    try:
        snapshot = Path(snapshot_download(repository, allow_patterns=wanted, local_files_only=True))
    except Exception:  # not there, or not whole: either way it has to be fetched
        return None
    return snapshot if _whole(snapshot, patterns) else None


def _whole(snapshot: Path, patterns: tuple[str, ...] | None) -> bool:
    """Whether a folder holds weights, and every part of those that come in parts."""
    names = [str(file.relative_to(snapshot)) for file in snapshot.rglob("*") if file.is_file()]
    wanted = [name for name in names if patterns is None or any(fnmatch.fnmatch(name, each) for each in patterns)]
    for index in (name for name in wanted if name.endswith(".safetensors.index.json")):
        if not set(read_index(snapshot / index)) <= set(names):
            return False
    return any(Path(name).suffix in WEIGHT_SUFFIXES for name in wanted)
