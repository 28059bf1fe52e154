"""Folders and globs: each real folder once, whatever links lead where, and nothing opened that is no file."""

import os
import socket
from collections import Counter

import pytest

from raddino.corpus.listing import AGAIN, NO_FILE, find, said


@pytest.fixture
def tree(tmp_path):
    """``in/`` with two files, a link to a folder elsewhere given twice, loops, and names of no file."""
    (tmp_path / "in/z").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    for name in ("in/1.png", "in/z/2.png", "other/3.png", "in/.hidden.png"):
        (tmp_path / name).write_bytes(b"x")
    root = tmp_path / "in"
    for name, target in (
        ("a_link", "../other"),
        ("b_link", "../other"),
        ("loop", "."),
        ("z/up", ".."),
        ("self", "self"),
    ):
        os.symlink(target, root / name)
    os.symlink("nowhere", root / "dangling.png")
    os.mkfifo(root / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        before = os.getcwd()
        os.chdir(root)
        server.bind("socket.png")
        os.chdir(before)
    return root


def listed(images):
    passed = Counter()
    return [name for _, name in find(str(images), passed)], passed


def test_links_are_followed_once_and_the_rest_is_counted(tree):
    names, passed = listed(tree)
    assert names == ["1.png", "z/2.png", "a_link/3.png"]
    assert passed == {NO_FILE: 4, AGAIN: 3}
    assert said(passed) == [
        "passed over: 3 links to folders that are read already",
        "passed over: 4 names of no regular file (dangling links, pipes, sockets, devices)",
    ]


def test_a_link_is_a_root_like_any(tree):
    os.symlink(tree, tree.parent / "LINK")
    assert listed(tree.parent / "LINK")[0] == listed(tree)[0]


def test_globs_end_in_loops_too(tree):
    assert listed(f"{tree}/**/*.png")[0] == ["1.png", "z/2.png", "a_link/3.png"]
    assert listed(f"{tree}/*/*.png")[0] == ["a_link/3.png", "b_link/3.png", "loop/1.png", "z/2.png"]
    assert listed(f"{tree}/z/**")[0] == ["2.png", "up/1.png", "up/a_link/3.png"]
    assert listed(f"{tree}/**/[12].png")[0] == ["1.png", "z/2.png"]


def test_a_file_is_itself_whatever_signs_its_name_holds(tmp_path):
    (tmp_path / "a[1].png").write_bytes(b"x")
    assert listed(tmp_path / "a[1].png")[0] == ["a[1].png"]
