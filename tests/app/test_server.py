"""What the page answers to whom: attacks."""

import http.client
import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def ask(served):
    """``ask(method, path, body, **headers)``: status, headers and body; sends the session's cookie."""
    host = served.address.removeprefix("http://")
    session: dict[str, str] = {}

    def ask(method="GET", path="/", body=None, cookie=True, **headers):
        connection = http.client.HTTPConnection(host, timeout=20)
        sent = {name.replace("_", "-"): value for name, value in headers.items()} | (session if cookie else {})
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    status, headers, _ = ask(path=f"/?token={served.guard.token}")
    assert status == 303
    session["Cookie"] = headers["set-cookie"].partition(";")[0]
    assert {"httponly", "samesite=strict"} <= set(headers["set-cookie"].lower().split("; "))
    ask.host = host
    return ask


def test_the_token_opens_once(ask, served) -> None:
    assert ask()[0] == 200
    assert ask(path=f"/?token={served.guard.token}", cookie=False)[0] == 403


@pytest.mark.parametrize("path", ["/", "/api/state", "/api/image/c0", "/static/app.js", "/?token=wrong", "/?token="])
def test_nothing_without_the_session(ask, path) -> None:
    assert ask(path=path, cookie=False)[0] == 403
    assert ask(path=path, cookie=False, Cookie="raddino_session=x")[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", ""])
def test_a_rebound_name_is_refused(ask, host) -> None:
    assert ask(Host=host)[0] == 403


def test_a_foreign_page_is_refused(ask, png) -> None:
    for origin in ("http://evil.example", "null", "http://localhost:1", f"https://{ask.host}"):
        assert ask("POST", "/api/drop", png.read_bytes(), Origin=origin)[0] == 403
    assert ask("POST", "/api/drop", png.read_bytes(), Origin=f"http://{ask.host}")[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/static/../server.py", "/static/..%2fserver.py", "/static/%2e%2e/server.py", "/static//etc/passwd",
     "/static/..%5cserver.py", "/docs", "/openapi.json", "/etc/passwd"],
)  # fmt: skip
def test_no_path_leads_out(ask, path) -> None:
    assert ask(path=path)[0] == 404


@pytest.mark.parametrize(
    "path",
    ["image/c80", "image/c-1", "image/c1e3", "image/u1", "image/..", "image/c²", "image/c" + "9" * 40, "colours/2/c0",
     "colours/-1/c0", "colours/x/c0", "similarity/0/c0", "similarity/0/c0?x=2&y=0", "similarity/0/c0?x=nan&y=0",
     "similarity/0/c0?x=inf&y=0", "colours/0/c0?other=u9", "neighbours/0/u7", "attention/0/c99"],
)  # fmt: skip
def test_what_is_not_there_is_told_in_a_line(ask, path) -> None:
    from urllib.parse import quote

    status, _, body = ask(path="/api/" + quote(path, safe="/?=&"))
    assert status in (404, 422)
    assert set(json.loads(body)) <= {"error", "detail"}
    assert b"/" not in body


def test_too_large_is_refused_before_and_while_it_comes(ask, monkeypatch) -> None:
    monkeypatch.setattr("raddino.app.views.UPLOAD_MIB", 1)
    assert ask("POST", "/api/drop", None, Content_Length=str(10**12))[0] == 413
    assert ask("POST", "/api/drop", (bytes(1 << 16) for _ in range(17)))[0] == 413


@pytest.mark.parametrize("data", [b"", b"x", bytes(200), b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(99), b"<svg/>"])
def test_broken_files_are_refused_without_a_path(ask, data) -> None:
    status, _, body = ask("POST", "/api/drop", data)
    assert status == 422
    assert b"/" not in body
    assert b"Traceback" not in body


def test_every_answer_forbids_foreign_script_and_storing(ask) -> None:
    for path, cookie in (("/", True), ("/api/state", True), ("/api/image/c999", True), ("/", False)):
        headers = ask(path=path, cookie=cookie)[1]
        assert "default-src 'none'; script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"


def test_a_failure_leaks_nothing(ask, served, monkeypatch) -> None:
    from raddino.errors import RaddinoError

    for error in (RaddinoError("corpus /secret/place: damaged"), ValueError("/secret/place")):
        monkeypatch.setattr(served.looker, "image", lambda key, error=error: (_ for _ in ()).throw(error))
        status, _, body = ask(path="/api/image/c0")
        assert status == 500
        assert b"secret" not in body


def test_a_dropped_image_comes_back_grey_for_grey(ask, png) -> None:
    key = json.loads(ask("POST", "/api/drop", png.read_bytes())[2])["key"]
    _, headers, body = ask(path=f"/api/image/{key}")
    shape = int(headers["x-height"]), int(headers["x-width"])
    grey = np.asarray(Image.open(png), float)
    expected = (grey - grey.min()) / np.ptp(grey) * 65535
    np.testing.assert_allclose(np.frombuffer(body, "<u2").reshape(shape), expected, atol=1)


def test_the_similarity_of_a_patch_to_itself_is_one_and_the_most(ask, looker) -> None:
    values = np.array(json.loads(ask(path="/api/similarity/0/c3?x=0.55&y=0.3")[2])["c3"]["values"])
    assert values.shape == (8, 8)
    assert np.unravel_index(values.argmax(), (8, 8)) == (2, 4)
    assert values.max() == 1
    patches = looker.patches(0, "c3")[0].astype(float)
    cosine = patches @ patches[2, 4] / np.linalg.norm(patches, axis=-1) / np.linalg.norm(patches[2, 4])
    np.testing.assert_allclose(values, cosine, atol=6e-4)
