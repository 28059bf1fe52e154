"""What the page looks at: a corpus, encoders, images dropped in, and features that were computed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from raddino.errors import RaddinoError
from raddino.features.cache import FeatureSet
from raddino.images.read import read_image, to_grey
from raddino.images.wall import Wall, seconds_for
from raddino.look.neighbours import embedded
from raddino.look.patches import Seen, see

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus
    from raddino.encoders.base import Encoder

LONGEST_SIDE, UPLOADS, SEEN, SEARCHED = 1024, 16, 32, 2000
"""Pixels of an image dropped in (its shorter side); how many of these are kept, of seen images, of corpus images."""


class Absent(RaddinoError):
    """Something was asked for that is not there; its words hold no path."""


def read_grey(data: bytes) -> np.ndarray:
    """A file's bytes as (H, W) uint16, its darkest pixel 0, its brightest 65535; no header fact is kept."""
    return to_grey(read_image(data), LONGEST_SIDE, 16)


class Looker:
    """Images by key (``c7``: row 7 of the corpus; ``u2``: second image dropped in) and what encoders make of them.

    Any number of threads may ask; an encoder computes for one at a time. Only features of corpus images are written,
    to the corpus's own feature cache.

    Args:
        wall: where files dropped in are decoded.
    """

    def __init__(self, corpus: Corpus | None, encoders: Sequence[Encoder], wall: Wall) -> None:
        self.corpus, self.encoders = corpus, list(encoders)
        self._lock, self._reading = threading.RLock(), threading.Lock()
        self._wall = wall
        self._uploads: OrderedDict[str, np.ndarray] = OrderedDict()
        self._dropped = 0
        self._seen: OrderedDict[tuple[int, str], Seen] = OrderedDict()
        self._features: dict[int, FeatureSet] = {}

    def image(self, key: str) -> np.ndarray:
        """Grey pixels (H, W), uint8 or uint16."""
        kind, number = key[:1], key[1:]
        if kind == "c" and number.isdecimal() and self.corpus is not None and len(number) < 12:
            if int(number) < len(self.corpus):
                with self._reading:
                    return self.corpus.read(int(number))
        elif key in self._uploads:
            return self._uploads[key]
        raise Absent("no such image")

    def encoder(self, number: int) -> Encoder:
        """The encoder of that number, from 0."""
        if not 0 <= number < len(self.encoders):
            raise Absent("no such encoder")
        return self.encoders[number]

    def seen(self, number: int, key: str) -> Seen:
        """What an encoder makes of an image, computed once while it is among the last :data:`SEEN`."""
        encoder, image = self.encoder(number), self.image(key)
        with self._lock:
            if (number, key) not in self._seen:
                self._seen[number, key] = see(encoder, [image])
                while len(self._seen) > SEEN:
                    self._seen.popitem(last=False)
            self._seen.move_to_end((number, key))
            return self._seen[number, key]

    def patches(self, number: int, key: str) -> np.ndarray:
        """Patch features (1, H, W, D)."""
        patches = self.seen(number, key).patches
        if patches is None:
            raise Absent(f"encoder {self.encoder(number).name} has no patch features")
        return patches

    def features(self, number: int) -> FeatureSet:
        """Of up to :data:`SEARCHED` corpus images, from the corpus's feature cache where it holds them."""
        encoder = self.encoder(number)
        if self.corpus is None:
            raise Absent("no corpus was given, so there is nothing to search")
        with self._lock:
            if number not in self._features:
                self._features[number] = embedded(self.corpus, encoder, SEARCHED)
            return self._features[number]

    def drop(self, data: bytes) -> str:
        """Take in a file (DICOM, PNG, JPEG …), decoded in a process of its own; its key. The oldest go first.

        Raises:
            ImageError: it cannot be read, or is no radiograph.
        """
        with self._reading:
            grey = self._wall.call(read_grey, data, seconds=seconds_for(data))
        with self._lock:
            self._dropped += 1
            key = f"u{self._dropped}"
            self._uploads[key] = grey
            while len(self._uploads) > UPLOADS:
                gone, _ = self._uploads.popitem(last=False)
                for seen in [one for one in self._seen if one[1] == gone]:
                    del self._seen[seen]
        return key
