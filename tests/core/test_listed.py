"""What `read_catalog` makes of lists: which files they mean, and which class a file gets."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import labels, make_tree, read_listed

from mfcd_core.catalog import read_catalog
from mfcd_core.errors import UsageError

if TYPE_CHECKING:
    from random import Random

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def test_a_plain_list_gives_paths_and_labels(tmp_path: Path) -> None:
    catalog = read_listed(
        tmp_path,
        ["x/1.avi", "x/two words.avi", "y/3.bin", "y/4.avi", "y/5.avi", "z/6.avi", "z/6.avi 7", "left/out.avi"],
        list_txt="x/1.avi run\r\n\nx/two words.avi jump \ny/3.bin\tstand still\ny/4.avi\n./y//5.avi stand still\n"
        "z/6.avi 7\nx/1.avi run\n",
    )
    assert labels(catalog) == {
        "x/1.avi": "run",
        "x/two words.avi": "jump",
        "y/3.bin": "stand still",
        "y/4.avi": "y",
        "y/5.avi": "stand still",
        "z/6.avi 7": "z",
    }
    assert catalog.unmatched == ()


def test_lines_that_name_no_file_are_unmatched_once(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    os.mkfifo(tmp_path / "source" / "pipe.avi")
    catalog = read_listed(
        tmp_path, ["a/1.avi"], list_txt="a/1.avi\na/gone.avi run\na/gone.avi run\na\nnowhere/1.avi\npipe.avi\n"
    )
    assert labels(catalog) == {"a/1.avi": "a"}
    assert catalog.unmatched == ("a/gone.avi run", "a", "nowhere/1.avi", "pipe.avi")


@pytest.mark.parametrize(
    "line",
    [
        "../secret.mp4 a",
        "a/../../secret.mp4 a",
        "/etc/passwd a",
        "out.mp4 a",
        "away/secret.mp4",
        ".mfcd/x.mp4 a",
        "a\0b",
    ],
)
def test_a_line_that_leaves_the_source_is_refused(tmp_path: Path, line: str) -> None:
    make_tree(tmp_path, "secret.mp4", "source/v.mp4")
    (tmp_path / "source" / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (tmp_path / "source" / "away").symlink_to(tmp_path)
    with pytest.raises(UsageError, match=r"list\.txt line 2"):
        read_listed(tmp_path, [], list_txt=f"v.mp4 a\n{line}\n")


@pytest.mark.parametrize("path", ["../run/1.avi", "/run/1.avi", "run/../run/1.avi", ".mfcd/1.avi", "run/1\0.avi"])
def test_an_entry_of_a_csv_that_leaves_the_source_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageError, match=r"by_set\.csv line 2"):
        read_listed(tmp_path, ["run/1.avi"], by_set_csv=f"path,split\n{path},train\n")


def test_links_within_the_source_are_files_like_others(tmp_path: Path) -> None:
    source = make_tree(tmp_path / "source", "real/1.avi")
    (source / "link.avi").symlink_to("real/1.avi")
    (source / "folder").symlink_to("real")
    catalog = read_listed(tmp_path, [], list_txt="link.avi run\nfolder/1.avi jump\n")
    assert labels(catalog) == {"link.avi": "run", "folder/1.avi": "jump"}


def test_an_entry_in_another_normal_form_means_the_one_file_that_fits(tmp_path: Path) -> None:
    files = [f"{NFD}/{NFC}.avi", f"{NFC}2/1.avi"]
    listed = f"{NFC}/{NFD}.avi run\n{NFD}2/1.avi jump\n"
    assert labels(read_listed(tmp_path, files, list_txt=listed)) == {files[0]: "run", files[1]: "jump"}
    csv = f"path,split\n{NFC}/{NFD}.avi,train\n"
    assert set(labels(read_listed(tmp_path, files, by_csv=csv))) == {files[0]}


def test_an_entry_that_fits_two_normal_forms_names_both(tmp_path: Path) -> None:
    name = "é".join("abc")  # two accents: a third spelling is neither NFC nor NFD
    mixed = unicodedata.normalize("NFC", "aé") + "b" + unicodedata.normalize("NFD", "éc")
    spellings = {unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)}
    with pytest.raises(UsageError, match=r"list\.txt line 1") as error:
        read_listed(tmp_path, [f"{s}.avi" for s in spellings], list_txt=f"{mixed}.avi run\n")
    assert all(ascii(f"{s}.avi") in str(error.value) for s in spellings)


def test_the_spelling_of_the_list_wins_where_both_are_on_disk(tmp_path: Path) -> None:
    assert labels(read_listed(tmp_path, [f"{NFC}.avi", f"{NFD}.avi"], list_txt=f"{NFD}.avi run\n")) == {
        f"{NFD}.avi": "run"
    }


def test_two_lines_with_one_id_or_two_classes_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"v\.avi.*v\.mp4"):
        read_listed(tmp_path, ["v.avi", "v.mp4"], list_txt="v.mp4 run\nv.avi run\n")
    with pytest.raises(UsageError, match=r"line 2.*jump.*run"):
        read_listed(tmp_path, [], list_txt="v.mp4 run\nv.mp4 jump\n")


def test_a_line_with_a_name_too_long_for_an_output_is_left_out(tmp_path: Path) -> None:
    catalog = read_listed(tmp_path, [f"{'x' * 240}.avi", "v.avi"], list_txt=f"{'x' * 240}.avi run\nv.avi run\n")
    assert (labels(catalog), catalog.ignored) == ({"v.avi": "run"}, {"name longer than 230 bytes": 1})


def test_blanks_without_end_do_no_harm(tmp_path: Path) -> None:
    catalog = read_listed(tmp_path, ["v.avi"], list_txt=f"v.avi{' ' * 100_000}run\n")
    assert labels(catalog) == {"v.avi": "run"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_lists_of_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    text = "Año/ñandú “corre”.avi run\r\n"
    assert labels(read_listed(tmp_path, ["Año/ñandú “corre”.avi"], list_txt=text.encode(encoding))) == {
        "Año/ñandú “corre”.avi": "run"
    }


def test_a_list_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.txt cannot be read"):
        read_catalog(make_tree(tmp_path, "v.avi"), [tmp_path / "gone.txt"])


# Letters that some part could stumble over: separators, quotes, dots, both normal forms, digits that look like labels.
nasty = st.text(st.sampled_from(list("ab1 .-_'\"[]&!;,#:\\*?%~\ré\u0301ß☃\u2028\x1c")), min_size=1, max_size=8)
good_parts = nasty.filter(lambda part: part not in {".", ".."} and part == part.strip(" \r"))
tree_paths = st.tuples(st.lists(good_parts, max_size=2), good_parts, st.sampled_from([".avi", ".MP4", ".bin"])).map(
    lambda path: "/".join([*path[0], path[1] + path[2]])
)


def alike(path: str) -> str:
    """The path without extension, case and normal form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path.rpartition(".")[0]).lower())


def legal_together(paths: list[str]) -> list[str]:
    """Those of the paths that differ by more than extension, case and normal form; no file where a folder is."""
    chosen: dict[str, str] = {}
    for path in paths:
        if not any(alike(path).startswith(other) or other.startswith(alike(path)) for other in chosen):
            chosen[alike(path)] = path
    return list(chosen.values())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(tree_paths, max_size=8).map(legal_together),
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.lists(st.sampled_from(["run", "stand still", "é", None]), min_size=8, max_size=8),
    st.randoms(use_true_random=False),
)
def test_a_list_gives_back_exactly_the_files_that_exist(
    paths: list[str], exist: list[bool], given_labels: list[str | None], random: Random
) -> None:
    rows = list(zip(paths, exist, given_labels, strict=False))
    lines = [path if label is None else f"{path}\t{label}" for path, _, label in rows] * 2
    random.shuffle(lines)
    present = {path: label for path, exists, label in rows if exists}
    with TemporaryDirectory() as folder:
        catalog = read_listed(Path(folder), [*present, "never/listed.avi"], list_txt="\n".join(lines) + "\n")
    assert labels(catalog) == {path: label or first_folder(path) for path, label in present.items()}
    ids = [video.id for video in catalog.videos]
    assert ids == sorted(set(ids))
    assert len(catalog.unmatched) == len(rows) - len(present)


def first_folder(path: str) -> str | None:
    return path.split("/", maxsplit=1)[0] if "/" in path else None


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=20), st.data())
def test_splits_of_lists_are_disjoint_or_refused(entries: list[str], data: st.DataObject) -> None:
    roles = data.draw(st.lists(st.sampled_from(["train", "val", "test"]), min_size=len(entries), max_size=len(entries)))
    text = "path,split\n" + "".join(f"{entry}.avi,{role}\n" for entry, role in zip(entries, roles, strict=True))
    roles_of = {entry: {r for e, r in zip(entries, roles, strict=True) if e == entry} for entry in entries}
    with TemporaryDirectory() as folder:
        files = [f"x/{entry}.avi" for entry in sorted(set(entries))]
        if any(len(found) > 1 for found in roles_of.values()):
            with pytest.raises(UsageError, match="expected one role a video"):
                read_listed(Path(folder), files, by_csv=text)
        else:
            assert len(read_listed(Path(folder), files, by_csv=text)) == len(files)
