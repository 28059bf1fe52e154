"""What the page asks for, as JSON or grey values; nothing is computed here that ``look/`` does not compute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter, Request, Response

from raddino.app.state import Absent, Looker
from raddino.look.frame import frame
from raddino.look.neighbours import nearest, readable
from raddino.look.patches import attention, pca_rgb, similarity, unit
from raddino.look.shown import facts

if TYPE_CHECKING:
    from raddino.corpus.dataset import Corpus

UPLOAD_MIB = 128
NEIGHBOURS = 8


class TooLarge(Exception):
    """More was sent than is read."""


def views(looker: Looker) -> APIRouter:
    """The page's questions, all below ``/api``."""
    api = APIRouter(prefix="/api")

    @api.get("/state")
    def state() -> dict[str, Any]:
        """Encoders, and how many images the corpus has."""
        return {
            "encoders": [{"name": one.name, "grid": one.grid} for one in looker.encoders],
            "images": len(looker.corpus) if looker.corpus is not None else 0,
        }

    @api.get("/image/{key}")
    def image(key: str) -> Response:
        """Grey values, 16 bits deep and little-endian, row by row; the size is in the headers."""
        grey = looker.image(key)
        deep = grey.astype("<u2") * 257 if grey.dtype == np.uint8 else grey.astype("<u2")
        size = {"X-Height": str(grey.shape[0]), "X-Width": str(grey.shape[1])}
        return Response(deep.tobytes(), media_type="application/octet-stream", headers=size)

    @api.get("/facts/{key}")
    def told(key: str) -> dict[str, Any]:
        """View, sex, age and labels of a corpus image; nothing of one dropped in."""
        looker.image(key)
        return {"facts": _facts(looker.corpus, key), "labels": _labels(looker.corpus, key)}

    @api.get("/colours/{encoder}/{key}")
    def colours(encoder: int, key: str, other: str | None = None) -> dict[str, Any]:
        """Principal components of the patches as colours, fitted on the image and, where given, another."""
        keys = [key] if other in (None, key) else [key, str(other)]
        rgb = pca_rgb(np.concatenate([looker.patches(encoder, one) for one in keys]))
        return {one: _grid(encoder, one, rgb[i]) for i, one in enumerate(keys)}

    @api.get("/similarity/{encoder}/{key}")
    def similar(encoder: int, key: str, x: float, y: float, other: str | None = None) -> dict[str, Any]:
        """Cosine of the patch at a point (shares of width and height) with every patch of the image and another."""
        patches = looker.patches(encoder, key)[0]
        row, column = _patch(encoder, key, x, y, patches.shape[:2])
        point = unit(patches[row, column])
        keys = dict.fromkeys([key] if other is None else [key, other])
        found = {one: similarity(point, unit(looker.patches(encoder, one)[0])) for one in keys}
        return {one: _grid(encoder, one, values.round(3)) for one, values in found.items()}

    @api.get("/attention/{encoder}/{key}")
    def heads(encoder: int, key: str) -> dict[str, Any]:
        """Attention of the class token, for each head."""
        weights = attention(looker.encoder(encoder), looker.seen(encoder, key).batch)
        if weights is None:
            raise Absent(f"encoder {looker.encoder(encoder).name} tells no attention")
        scaled = weights[0] / np.maximum(weights[0].max((1, 2), keepdims=True), 1e-12)
        return _grid(encoder, key, scaled.round(3).transpose(1, 2, 0)) | {"heads": int(scaled.shape[0])}

    @api.get("/neighbours/{encoder}/{key}")
    def neighbours(encoder: int, key: str, strangers: bool = True) -> list[dict[str, Any]]:
        """The nearest corpus images; of other patients only, or all but the image itself."""
        stored = looker.features(encoder)
        assert looker.corpus is not None
        who = looker.corpus.manifest["patient" if strangers else "id"].to_numpy()
        asker = who[int(key[1:])] if key.startswith("c") else ""
        query = looker.seen(encoder, key).cls
        order, cosine = nearest(query, stored.cls, np.array([asker], object), who[stored.rows], NEIGHBOURS)
        found = [(f"c{stored.rows[i]}", float(c)) for i, c in zip(order[0], cosine[0], strict=True) if np.isfinite(c)]
        return [
            {"key": one, "cosine": round(c, 4), "facts": _facts(looker.corpus, one),
             "labels": _labels(looker.corpus, one)}
            for one, c in found
        ]  # fmt: skip

    @api.post("/drop")
    async def drop(request: Request) -> dict[str, str]:
        """Take in one file, sent as the body; it stays in memory."""
        from fastapi.concurrency import run_in_threadpool

        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > UPLOAD_MIB << 20:
                raise TooLarge
        return {"key": await run_in_threadpool(looker.drop, bytes(data))}

    def _place(encoder: int, key: str) -> tuple[float, float, float, float]:
        height, width = looker.image(key).shape
        at = frame(looker.encoder(encoder), (height, width))
        return at.top / height, at.left / width, at.height / height, at.width / width

    def _grid(encoder: int, key: str, values: np.ndarray) -> dict[str, Any]:
        return {"place": _place(encoder, key), "shape": values.shape[:2], "values": values.tolist()}

    def _patch(encoder: int, key: str, x: float, y: float, grid: tuple[int, ...]) -> tuple[int, int]:
        top, left, height, width = _place(encoder, key)
        row, column = (y - top) / height * grid[0], (x - left) / width * grid[1]
        if not (0 <= row < grid[0] and 0 <= column < grid[1] and 0 <= x <= 1 and 0 <= y <= 1):
            raise Absent("the encoder does not see this point")
        return int(row), int(column)

    return api


def _facts(corpus: Corpus | None, key: str) -> str:
    return facts(corpus, int(key[1:])) if key.startswith("c") and corpus is not None else "dropped in"


def _labels(corpus: Corpus | None, key: str) -> list[str]:
    """Labels that are positive, in words."""
    if not key.startswith("c") or corpus is None:
        return []
    line = corpus.manifest.iloc[int(key[1:])]
    return [readable(name) for name in corpus.manifest if name.startswith("label_") and line[name] == 1]
