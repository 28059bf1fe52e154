import sys

import pytest

from raddino.app.start import start
from raddino.errors import ConfigError, RaddinoError


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_without_the_extra_one_line_tells_the_remedy(monkeypatch, missing) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"pip install 'raddino\[app\]'"):
        start(None, ["raddino-tiny"])


def test_a_taken_port_is_told(served, looker) -> None:
    from raddino.app.server import serve

    with pytest.raises(RaddinoError, match="leave --port out"):
        serve(looker, int(served.address.rpartition(":")[2]))


def test_it_is_bound_to_this_machine_alone_and_prints_the_address(looker, monkeypatch, capsys) -> None:
    from raddino.app import server

    bound = []
    monkeypatch.setattr(server.uvicorn.Server, "run", lambda self, sockets: bound.append(sockets[0].getsockname()))
    server.serve(looker)
    assert bound[0][0] == "127.0.0.1"
    assert f"http://127.0.0.1:{bound[0][1]}/?token=" in capsys.readouterr().out
