"""From the names of a corpus and of encoders to the running page."""

from __future__ import annotations

from collections.abc import Sequence

from raddino.corpus.dataset import Corpus
from raddino.encoders.load import load_encoder
from raddino.errors import ConfigError
from raddino.images.wall import Wall


def start(corpus: str | None, encoders: Sequence[str], port: int = 0, device: str = "auto") -> None:
    """Open and load what is named, and serve until Ctrl-C.

    Raises:
        ConfigError: the extra is missing.
        RaddinoError: of the corpus or an encoder.
    """
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise ConfigError("raddino app needs FastAPI and uvicorn: pip install 'raddino[app]'") from None
    from raddino.app.server import serve
    from raddino.app.state import Looker

    opened = Corpus.open(corpus) if corpus else None
    with Wall() as wall:
        serve(Looker(opened, [load_encoder(one, device) for one in encoders], wall), port)
