"""Files that appear whole, and how content is known again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from gbsep.atomic import replacing, write_whole
from gbsep.errors import AudioFileError
from gbsep.store.identity import Stamp, content_hash, file_hash, is_settled, json_hash, path_hash


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with replacing(path) as hidden:
        hidden.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def interrupted() -> None:
        with replacing(path) as hidden:
            hidden.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    other, link = tmp_path / "other", tmp_path / "link"
    other.write_text("mine")
    try:
        link.symlink_to(other)
    except OSError:
        pytest.skip("this system makes no links")
    write_whole(link, "new")
    assert (other.read_text(), link.read_text(), link.is_symlink()) == ("mine", "new", False)


def test_a_missing_folder_is_made_for_small_files_alone(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b", b"\0")
    assert (tmp_path / "a" / "b").read_bytes() == b"\0"
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "c" / "d"):
        pass


def test_hashes_are_those_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(range(256)) * 5000)
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert content_hash(path) == file_hash(path) == expected
    with pytest.raises(AudioFileError, match="cannot be read: No such file"):
        content_hash(tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        file_hash(tmp_path / "none")
    assert path_hash(path) == hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


@pytest.mark.parametrize("form", [{}, {"sort_keys": True}, {"sort_keys": True, "separators": (",", ":")}])
def test_the_form_of_json_is_part_of_its_hash(form: dict[str, object]) -> None:
    value = {"b": [1, 2.5, "é"], "a": None}
    assert json_hash(value, **form) == hashlib.sha256(json.dumps(value, **form).encode()).hexdigest()  # type: ignore[arg-type]
    assert (json_hash(value, **form) == json_hash(dict(sorted(value.items())), **form)) is ("sort_keys" in form)


def test_a_file_is_settled_two_seconds_after_its_last_change() -> None:
    stamp = Stamp(size=1, modified_ns=5 * 10**9, changed_ns=7 * 10**9, inode=1)
    assert not is_settled(stamp, 9 * 10**9)
    assert is_settled(stamp, 9 * 10**9 + 1)
    assert is_settled(stamp)
