from __future__ import annotations

import os
import sys
import unicodedata
from typing import TYPE_CHECKING

import pytest

from mfcd_core.catalog import Video, read_catalog
from mfcd_core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def make_tree(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    return root


def test_the_first_folder_is_the_label_and_ids_are_sorted(tmp_path: Path) -> None:
    catalog = read_catalog(make_tree(tmp_path, "run/b.avi", "run/deep/c.MP4", "jump/a.mkv", "alone.webm"))
    assert catalog.videos == (
        Video("alone", "alone.webm", None),
        Video("jump/a", "jump/a.mkv", "jump"),
        Video("run/b", "run/b.avi", "run"),
        Video("run/deep/c", "run/deep/c.MP4", "run"),
    )


def test_only_the_last_extension_is_left_out_of_an_id(tmp_path: Path) -> None:
    catalog = read_catalog(make_tree(tmp_path, "a/v1.2.avi", "a/v1.3.avi"))
    assert [video.id for video in catalog.videos] == ["a/v1.2", "a/v1.3"]


def test_other_files_are_left_out_and_counted(tmp_path: Path) -> None:
    make_tree(
        tmp_path, "a/v.avi", "a/notes.txt", "b/notes.txt", "a/.hidden.avi", ".git/x.avi", "README", "c/d.avi/e.png"
    )
    catalog = read_catalog(tmp_path)
    assert [video.id for video in catalog.videos] == ["a/v"]
    assert catalog.ignored == {"extension .txt": 2, "hidden": 2, "no extension": 1, "extension .png": 1}


NAMES = ["it's", 'say "x"', "two  blanks", "-y", "line\nbreak", "100%", "a:b", "tab\t", "snow ☃", "[0]", "~", "$HOME"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_kept_as_on_disk(tmp_path: Path, name: str) -> None:
    catalog = read_catalog(make_tree(tmp_path, f"{name}/{name}.mp4"))
    assert catalog.videos == (Video(f"{name}/{name}", f"{name}/{name}.mp4", name),)


def test_two_spellings_of_one_unicode_name_are_two_videos(tmp_path: Path) -> None:
    names = {unicodedata.normalize(form, "café") for form in ("NFC", "NFD")}
    catalog = read_catalog(make_tree(tmp_path, *(f"{name}.mp4" for name in names)))
    assert {video.id for video in catalog.videos} == names
    assert len(catalog) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8_is_left_out_and_counted(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/caf\xe9.mp4", "wb"):  # noqa: PTH123, a name in bytes
        pass
    assert read_catalog(tmp_path).ignored == {"name is not UTF-8": 1}


def test_two_files_with_one_id_are_an_error_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'a/v\.avi'.*'a/v\.mp4'|'a/v\.mp4'.*'a/v\.avi'"):
        read_catalog(make_tree(tmp_path, "a/v.avi", "a/v.mp4"))


def test_links_that_leave_the_source_are_left_out_and_counted(tmp_path: Path) -> None:
    make_tree(tmp_path / "elsewhere", "secret.mp4")
    source = make_tree(tmp_path / "source", "a/v.mp4")
    (source / "a" / "out.mp4").symlink_to(tmp_path / "elsewhere" / "secret.mp4")
    (source / "a" / "in.mp4").symlink_to("v.mp4")
    (source / "b").symlink_to(tmp_path / "elsewhere")
    catalog = read_catalog(source)
    assert [video.id for video in catalog.videos] == ["a/in", "a/v"]
    assert catalog.ignored == {"link out of the source folder": 1, "link to a folder": 1}


def test_the_source_itself_may_be_a_link(tmp_path: Path) -> None:
    make_tree(tmp_path / "real", "a/v.mp4")
    (tmp_path / "link").symlink_to("real")
    assert [video.id for video in read_catalog(tmp_path / "link").videos] == ["a/v"]


def test_a_list_gives_paths_and_labels(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "s", "x/1.avi", "x/two words.avi", "y/3.bin", "y/4.avi")
    listed = tmp_path / "list.txt"
    listed.write_text("x/1.avi run\r\n\nx/two words.avi jump\ny/3.bin\tstand still\ny/4.avi\n", "utf-8")
    assert {(video.path, video.label) for video in read_catalog(source, listed).videos} == {
        ("x/1.avi", "run"),
        ("x/two words.avi", "jump"),
        ("y/3.bin", "stand still"),
        ("y/4.avi", "y"),
    }


def test_a_whole_line_that_names_a_file_has_no_label(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "s", "x/two words.avi")
    (tmp_path / "list.txt").write_text("x/two words.avi\n", "utf-8")
    assert read_catalog(source, tmp_path / "list.txt").videos == (Video("x/two words", "x/two words.avi", "x"),)


@pytest.mark.parametrize(
    "line", ["../secret.mp4 a", "a/../../secret.mp4 a", "/etc/passwd a", "out.mp4 a", ".mfcd/x.mp4 a"]
)
def test_a_line_that_leaves_the_source_is_refused(tmp_path: Path, line: str) -> None:
    make_tree(tmp_path, "secret.mp4")
    source = make_tree(tmp_path / "s", "v.mp4")
    (source / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (tmp_path / "list.txt").write_text(f"v.mp4 a\n{line}\n", "utf-8")
    with pytest.raises(UsageError, match="line 2"):
        read_catalog(source, tmp_path / "list.txt")


def test_one_path_with_two_labels_is_an_error(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "s", "v.mp4")
    (tmp_path / "list.txt").write_text("v.mp4 run\nv.mp4 jump\n", "utf-8")
    with pytest.raises(UsageError, match=r"run.*jump"):
        read_catalog(source, tmp_path / "list.txt")


def test_a_missing_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder"):
        read_catalog(tmp_path / "nowhere")


def test_a_catalog_can_be_restricted_to_ids(tmp_path: Path) -> None:
    catalog = read_catalog(make_tree(tmp_path, "a/1.avi", "a/2.avi", "b/3.avi"))
    assert [video.id for video in catalog.restricted_to(["b/3", "a/1", "other"]).videos] == ["a/1", "b/3"]
