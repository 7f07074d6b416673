from __future__ import annotations

import os
import sys
import tracemalloc
import unicodedata
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from trees import make_tree

from mfcd_core.catalog import Video, build_table, read_catalog
from mfcd_core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_first_folder_is_the_label_and_ids_are_sorted(tmp_path: Path) -> None:
    catalog = read_catalog(make_tree(tmp_path, "run/b.avi", "run/deep/c.MP4", "jump/a.mkv", "alone.webm"))
    assert list(catalog.videos) == [
        Video("alone", "alone.webm", None),
        Video("jump/a", "jump/a.mkv", "jump"),
        Video("run/b", "run/b.avi", "run"),
        Video("run/deep/c", "run/deep/c.MP4", "run"),
    ]


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
    assert list(catalog.videos) == [Video(f"{name}/{name}", f"{name}/{name}.mp4", name)]


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


def test_a_missing_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a folder"):
        read_catalog(tmp_path / "nowhere")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems make one file of these")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (unicodedata.normalize("NFC", "café.mp4"), unicodedata.normalize("NFD", "café.mp4")),
        ("Run/a.mp4", "run/A.avi"),
        ("É.mp4", unicodedata.normalize("NFD", "é.mp4")),
        ("a.avi", "a.mp4/b.avi"),
        ("x/a.avi", "x/A.MP4/b/c.avi"),
    ],
)
def test_outputs_that_some_file_system_takes_for_one_are_an_error(tmp_path: Path, first: str, second: str) -> None:
    with pytest.raises(UsageError, match="file systems") as error:
        read_catalog(make_tree(tmp_path, first, second))
    assert ascii(first) in str(error.value)
    assert ascii(second) in str(error.value)


def test_names_that_differ_by_more_than_case_are_two_videos(tmp_path: Path) -> None:
    assert len(read_catalog(make_tree(tmp_path, "Maße.mp4", "Masse.mp4", "a b.mp4", "a_b.mp4", "a.mp4.avi"))) == 5


def test_a_name_without_room_for_the_output_is_left_out_and_counted(tmp_path: Path) -> None:
    source = make_tree(tmp_path, f"{'é' * 115}.mp4", f"{'é' * 115}x.mp4", f"{'x' * 230}.avi", f"{'x' * 231}.avi")
    catalog = read_catalog(source)
    assert [len(video.id.encode()) for video in catalog.videos] == [230, 230]
    assert catalog.ignored == {"name longer than 230 bytes": 2}


def test_numbered_frames_do_not_make_a_reason_each(tmp_path: Path) -> None:
    source = make_tree(tmp_path, *(f"frame.{number:06d}" for number in range(5)), "a.b c", "a.", "v.mp4")
    assert read_catalog(source).ignored == {"no extension": 7}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_reasons_can_be_printed_whatever_the_names(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/x.\xe9", "wb"):  # noqa: PTH123, a name in bytes
        pass
    os.mkfifo(tmp_path / "pipe.mp4")
    ignored = read_catalog(tmp_path).ignored
    assert ignored == {"no extension": 1, "not a regular file": 1}
    assert "".join(ignored).isascii()


def test_links_to_nothing_and_in_circles_are_left_out(tmp_path: Path) -> None:
    source = make_tree(tmp_path, "a/v.mp4")
    (source / "a" / "gone.mp4").symlink_to("nothing.mp4")
    (source / "a" / "self.mp4").symlink_to("self.mp4")
    (source / "a" / "up").symlink_to("..")
    catalog = read_catalog(source)
    assert [video.id for video in catalog.videos] == ["a/v"]
    assert catalog.ignored == {"not a regular file": 2, "link to a folder": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may list every folder")
def test_a_folder_that_may_not_be_listed_is_counted(tmp_path: Path) -> None:
    source = make_tree(tmp_path, "a/v.mp4", "b/v.mp4")
    (source / "b").chmod(0)
    catalog = read_catalog(source)
    (source / "b").chmod(0o700)
    assert (len(catalog), catalog.ignored) == (1, {"folder that cannot be listed": 1})


def test_files_are_not_looked_at_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_tree(tmp_path, *(f"{label}/{number}.mp4" for label in "ab" for number in range(20)))
    looks = mock.Mock(wraps=os.lstat)
    monkeypatch.setattr(os, "lstat", looks)  # what os.path.realpath asks of every part of a path
    assert len(read_catalog(source)) == 40
    assert looks.call_count <= len(source.parts)


def test_videos_can_be_counted_sliced_and_walked_through_more_than_once(tmp_path: Path) -> None:
    videos = read_catalog(make_tree(tmp_path, "b/2.avi", "a/1.mkv", "3.AVI", "b/4.mkv")).videos
    expected = [Video("3", "3.AVI", None), Video("a/1", "a/1.mkv", "a"), Video("b/2", "b/2.avi", "b")]
    assert [*videos[:3]] == expected
    assert (videos[0], videos[-2], len(videos[1:3]), len(videos[:None])) == (expected[0], expected[2], 2, 4)
    assert expected[1] in videos
    assert [*videos] == [videos[row] for row in range(4)]
    with pytest.raises(IndexError):
        videos[4]


@pytest.mark.slow
def test_a_hundred_thousand_videos_take_columns_not_objects() -> None:
    paths = {f"class {row % 400:03d}/{row:011d}_000001_000011.mp4": f"class {row % 400:03d}" for row in range(100_000)}
    tracemalloc.start()
    try:
        table = build_table(paths)
        assert tracemalloc.get_traced_memory()[0] < 100_000 * 100  # an object, three strings: 400 bytes and more
    finally:
        tracemalloc.stop()
    assert table[-1].label == "class 399"


def test_a_class_index_orders_the_classes_and_leaves_out_nothing(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "s", "b/1.avi", "a/2.avi", "3.avi")
    (tmp_path / "classInd.txt").write_text("1 b\n2 a\n3 c\n", "utf-8")
    catalog = read_catalog(source, [tmp_path / "classInd.txt"])
    assert catalog.classes == ("b", "a", "c")
    assert [video.label for video in catalog.videos] == [None, "a", "b"]
    assert read_catalog(source).classes is None


def test_a_folder_that_the_class_index_lacks_is_an_error(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "s", "a/1.avi", "junk/2.avi")
    (tmp_path / "classInd.txt").write_text("1 a\n", "utf-8")
    with pytest.raises(UsageError, match=r"junk/2\.avi.*'junk'"):
        read_catalog(source, [tmp_path / "classInd.txt"])


def test_two_class_indexes_must_agree(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "s", "a/1.avi")
    for folder, text in (("x", "1 a\n2 b\n"), ("y", "1 b\n2 a\n")):
        make_tree(tmp_path, f"{folder}/classInd.txt")
        (tmp_path / folder / "classInd.txt").write_text(text, "utf-8")
    indexes = [tmp_path / folder / "classInd.txt" for folder in "xy"]
    assert read_catalog(source, [indexes[0], indexes[0]]).classes == ("a", "b")
    with pytest.raises(UsageError, match=r"x/classInd\.txt.*y/classInd\.txt"):
        read_catalog(source, indexes)
