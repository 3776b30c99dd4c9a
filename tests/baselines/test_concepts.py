from __future__ import annotations

import os

import pytest

from baselines.concepts import load_concepts
from tasks.common.errors import UserError

PLAIN = ("red", "brick wall", "Fisch", "école")


@pytest.mark.parametrize(
    "text",
    [
        "red\nbrick wall\nFisch\nécole\n",
        "red\nbrick wall\nFisch\nécole",
        "red\r\nbrick wall\r\nFisch\r\nécole\r\n",
        "\n  red \n\n\t\nbrick wall\nFisch\n\nécole\n\n",
        "red\nRED\nbrick wall\nred\nFisch\nfisch \nécole\nÉCOLE\n",
        "\ufeffred\nbrick wall\nFisch\nécole\n",
    ],
    ids=["plain", "no final newline", "crlf", "blank lines", "duplicates", "byte-order mark"],
)
def test_every_spelling_of_the_file_gives_the_same_concepts(tmp_path, text):
    path = tmp_path / "concepts.txt"
    path.write_bytes(text.encode())
    assert load_concepts(path) == PLAIN
    assert load_concepts(str(path)) == PLAIN


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no concept"),
        (b"\n \r\n", "holds no concept"),
        (b"red\n\xff\xfe\n", r"not UTF-8 text \(line 2\)"),
        ("red\nblue".encode("utf-16-le"), "not a text file"),
        (b"\x89PNG\r\n\x1a\n", "not UTF-8 text"),
    ],
)
def test_a_bad_file_is_named_with_the_reason(tmp_path, data, message):
    path = tmp_path / "bad.txt"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        load_concepts(path)
    assert "bad.txt" in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_concepts(tmp_path / "none.txt")
    with pytest.raises(UserError, match="cannot be read"):
        load_concepts(tmp_path)


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for place in (tmp_path / "fifo", "/dev/zero"):
        with pytest.raises(UserError, match="is no ordinary file"):
            load_concepts(place)
