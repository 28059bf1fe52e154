"""Every view, opened and clicked in a real browser."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image


def told(page) -> str:
    return page.locator("#status").inner_text()


def says(page, words: str) -> None:
    page.locator("#status", has_text=words).wait_for()


def pixels(page, number: int = 0) -> np.ndarray:
    address = page.evaluate("n => document.querySelectorAll('canvas.pane')[n].toDataURL()", number)
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    return np.asarray(picture.convert("RGB"))


def is_coloured(rgb: np.ndarray) -> bool:
    return bool((np.ptp(rgb.astype(int), axis=-1) > 20).mean() > 0.2)


def choose(page, layer: str) -> None:
    page.select_option("#show", layer)
    page.wait_for_load_state("networkidle")


def test_two_encoders_see_one_image_and_its_greys_are_those_stored(page, corpus) -> None:
    assert page.locator("canvas.pane").count() == 2
    assert page.locator("figcaption").all_inner_texts()[1].startswith("image 0, other. PA, ")
    stored, shown = corpus.read(0), pixels(page)
    assert not is_coloured(shown)
    height, width = stored.shape
    scale = 768 / width
    for row, column in ((10, 10), (48, 58), (80, 100)):
        y = 384 + (row + 0.5 - height / 2) * scale
        assert abs(int(shown[round(y), round((column + 0.5) * scale), 0]) - int(stored[row, column])) <= 3


def test_window_and_level_change_the_greys(page) -> None:
    before = pixels(page).std()
    page.locator("#window").fill("0.2")
    assert pixels(page).std() > 1.3 * before
    assert "window=0.2" in page.url
    page.click("#reset")
    assert pixels(page).std() == pytest.approx(before)


def test_zoom_and_pan_by_wheel_drag_and_keys_move_both_panes(page) -> None:
    first, second = pixels(page), pixels(page, 1)
    pane = page.locator("canvas.pane").first
    pane.hover()
    page.mouse.wheel(0, -600)
    page.wait_for_timeout(100)
    zoomed = pixels(page)
    assert (zoomed != first).mean() > 0.3
    np.testing.assert_array_equal(zoomed, pixels(page, 1))
    box = pane.bounding_box()
    page.mouse.move(box["x"] + 200, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 230, steps=3)
    page.mouse.up()
    dragged = pixels(page)
    assert (dragged != zoomed).mean() > 0.3
    pane.press("Shift+ArrowRight")
    assert (pixels(page) != dragged).mean() > 0.3
    pane.press("0")
    np.testing.assert_array_equal(pixels(page, 1), second)


def test_colours_cover_the_image(page) -> None:
    choose(page, "colours")
    assert is_coloured(pixels(page))
    page.locator("#strength").fill("0")
    assert not is_coloured(pixels(page))


def test_a_point_lights_its_own_patch_and_is_in_the_address(page) -> None:
    page.fill("#other-row", "4")
    page.press("#other-row", "Tab")
    page.locator("canvas.pane").nth(3).wait_for()
    choose(page, "similarity")
    assert told(page).startswith("Point at the first image")
    pane = page.locator("canvas.pane").first
    box = pane.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.4)
    says(page, "Similarity")
    assert "kept" not in told(page)
    page.mouse.down()
    page.mouse.up()
    says(page, "(kept)")
    assert "30 % across" in told(page)
    assert all(is_coloured(pixels(page, i)) for i in range(4))
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.5)
    page.wait_for_timeout(100)
    assert "30 % across" in told(page)
    address = page.url
    choose(page, "image")
    np.testing.assert_array_equal(np.ptp(pixels(page).astype(int), axis=-1), 0)
    choose(page, "similarity")
    pane.press("ArrowRight")
    says(page, "33 % across")
    page.goto("about:blank")
    page.goto(address)
    says(page, "30 % across")
    assert page.locator("canvas.pane").count() == 4


def test_attention_has_a_mean_and_every_head(page) -> None:
    choose(page, "attention")
    page.locator("#head option").nth(3).wait_for(state="attached")
    mean = pixels(page)
    assert is_coloured(mean)
    page.select_option("#head", "3")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(100)
    assert (pixels(page) != mean).mean() > 0.2


def test_neighbours_are_other_patients_and_a_click_compares(page, corpus) -> None:
    def rows() -> list[int]:
        page.click("#search")
        says(page, "A neighbour")
        return [int(n) for n in re.findall(r"image (\d+), cosine", page.locator("#found").inner_text())]

    found = rows()
    assert len(found) == 16
    assert not set(found) & {0, 1}, "images of the same patient"
    page.uncheck("#strangers")
    assert 0 not in rows()
    page.locator("#found button").first.click()
    page.locator("canvas.pane").nth(3).wait_for()
    assert "other=c" in page.url
    assert "secret" not in page.content()
    assert "person-" not in page.content()


def test_a_file_dropped_in_is_seen_and_leaves_no_file(page, png, corpus) -> None:
    before = {path for path in corpus.path.rglob("*")}
    page.set_input_files("#file", png)
    page.locator("figcaption", has_text="dropped-in image 1").first.wait_for(timeout=90_000)
    choose(page, "colours")
    assert is_coloured(pixels(page))
    assert {path for path in corpus.path.rglob("*")} == before
    assert "john" not in page.url


def test_a_broken_file_is_refused_in_words(page, tmp_path) -> None:
    file = tmp_path / "broken.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    page.set_input_files("#file", file)
    page.wait_for_selector("#status.wrong")
    assert str(tmp_path) not in told(page)
    assert page.locator("canvas.pane").count() == 2
    page.complaints.clear()  # the browser logs the 422


def test_reachable_by_keyboard_named_and_no_wider_than_400_px(page) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    nameless = page.evaluate(
        "[...document.querySelectorAll('input, select, button, canvas.pane')].filter(one =>"
        "!(one.labels?.length || one.textContent.trim() || one.getAttribute('aria-label'))).map(one => one.outerHTML)"
    )
    assert nameless == []
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert {"row", "other-row", "file", "a", "b", "show", "level", "window", "reset", "search", "pane"} <= reached
