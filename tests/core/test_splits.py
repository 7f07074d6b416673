from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfcd_core.errors import UsageError
from mfcd_core.splits import (
    is_class_index,
    is_split_file,
    merge_splits,
    parse_class_index,
    parse_split_file,
    random_split,
    resolve_splits,
)

UCF101_TRAIN = "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\nBasketball/v_Basketball_g08_c01.avi 8\n"
UCF101_TEST = "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\nBasketball/v_Basketball_g01_c01.avi\n"
UCF101_IDS = [
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01",
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01",
    "Basketball/v_Basketball_g08_c01",
    "Basketball/v_Basketball_g01_c01",
]
HMDB51 = (
    "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 \natkinson_brush_hair_u_goo_1.avi 2 \nleft_out_brush_hair_2.avi 0 \n"
)
KINETICS = (
    "label,youtube_id,time_start,time_end,split\n"
    "riding a bike,--07WQ2iBlw,1,11,train\n"
    "riding a bike,-0WZKTu0xT8,109,119,validate\n"
    '"tango, dancing",abcdefghijk,7,17,test\n'
)


def test_ucf101_lists_are_read_as_published() -> None:
    published = merge_splits(
        [parse_split_file("trainlist01.txt", UCF101_TRAIN), parse_split_file("testlist01.txt", UCF101_TEST)]
    )
    assert resolve_splits(published, UCF101_IDS).splits == {
        "split1": {"train": [UCF101_IDS[0], UCF101_IDS[2]], "test": [UCF101_IDS[1], UCF101_IDS[3]]}
    }


def test_windows_line_ends_and_blank_lines_do_no_harm() -> None:
    text = UCF101_TRAIN.replace("\n", "\r\n") + "\r\n\r\n"
    assert (
        parse_split_file("trainlist02.txt", text)["split2"]
        == parse_split_file("trainlist02.txt", UCF101_TRAIN)["split2"]
    )


def test_ucf101_entries_find_flat_folders_too() -> None:
    published = parse_split_file("trainlist03.txt", UCF101_TRAIN)
    flat = [video_id.rpartition("/")[2] for video_id in UCF101_IDS]
    deep = [f"videos/{video_id}" for video_id in UCF101_IDS]
    assert resolve_splits(published, flat).splits == {"split3": {"train": [flat[0], flat[2]]}}
    assert resolve_splits(published, deep).splits == {"split3": {"train": [deep[0], deep[2]]}}


def test_hmdb51_codes_are_roles_and_the_class_is_in_the_name() -> None:
    published = parse_split_file("brush_hair_test_split1.txt", HMDB51)
    ids = ["brush_hair/" + line.split(".avi", maxsplit=1)[0] for line in HMDB51.splitlines()]
    assert resolve_splits(published, ids).splits == {"split1": {"train": [ids[0]], "test": [ids[1]]}}


def test_a_wrong_hmdb51_line_is_named() -> None:
    with pytest.raises(UsageError, match="line 2"):
        parse_split_file("wave_test_split2.txt", "a.avi 1\nb.avi 3\n")


@pytest.mark.parametrize("blank", [" ", "_"])
def test_kinetics_csv_finds_the_names_of_the_usual_downloaders(blank: str) -> None:
    ids = [
        "riding a bike/--07WQ2iBlw_000001_000011",
        "riding a bike/-0WZKTu0xT8_000109_000119",
        "tango, dancing/abcdefghijk_000007_000017",
    ]
    ids = [video_id.replace(" ", blank) for video_id in ids]
    resolved = resolve_splits(parse_split_file("kinetics_train.csv", KINETICS), ids)
    assert resolved.splits == {"kinetics": {"train": [ids[0]], "val": [ids[1]], "test": [ids[2]]}}
    assert resolved.unmatched == ()


def test_a_kinetics_test_list_without_labels_is_matched_by_name() -> None:
    text = "youtube_id,time_start,time_end,split\nabcdefghijk,7,17,test\n"
    ids = ["tango/abcdefghijk_000007_000017"]
    assert resolve_splits(parse_split_file("test.csv", text), ids).splits == {"kinetics": {"test": ids}}


def test_a_plain_csv_is_named_after_its_file() -> None:
    published = parse_split_file("by set.csv", "path,split\nrun/1.avi,train\nrun/2,test\nrun/v1.5.avi,val\n")
    resolved = resolve_splits(published, ["run/1", "run/2", "run/v1.5"])
    assert resolved.splits == {"by set": {"train": ["run/1"], "test": ["run/2"], "val": ["run/v1.5"]}}


@pytest.mark.parametrize(
    ("text", "message"),
    [("path,role\na,train\n", "columns"), ("path,split\na,holdout\n", "line 2"), ("path,split\na\n", "line 2")],
)
def test_a_wrong_csv_says_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_split_file("x.csv", text)


def test_a_class_index_is_read_in_the_order_of_its_numbers() -> None:
    assert parse_class_index("\ufeff2 Two Words \r\n1 Archery\r\n\r\n") == ("Archery", "Two Words")
    assert is_class_index("classInd.txt")
    assert not is_split_file("classInd.txt")


@pytest.mark.parametrize(
    "text", ["1 a\nb\n", "1 a\n3 b\n", "0 a\n1 b\n", "1 a\n1 b\n", "1 a\n2 A\n", "1 \n", "² a\n", "1 a\n-2 b\n"]
)
def test_a_class_index_with_gaps_or_doubles_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="class index"):
        parse_class_index(text)


def test_a_split_line_may_hold_any_character_but_a_line_end() -> None:
    name = "run/a\u2028b\x0c\x1c c.avi"
    assert parse_split_file("testlist01.txt", f"{name}\r\n") == {"split1": {"test": [name]}}


def test_a_csv_with_a_stray_quote_is_an_error_that_names_the_line() -> None:
    with pytest.raises(UsageError, match=r"x\.csv line"):
        parse_split_file("x.csv", 'path,split\na,train\n"' + "b" * 200_000 + "\n")


@pytest.mark.parametrize("path", ["/run/1.avi", "../1.avi", "run/..", ".mfcd/1.avi"])
def test_an_entry_that_leaves_the_source_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match=r"testlist01\.txt line 1"):
        parse_split_file("testlist01.txt", f"{path}\n")


def test_case_counts_in_names_of_kinetics_and_not_in_others() -> None:
    published = parse_split_file("x.csv", "path,split\nRun/V_1.avi,test\nrun/abcDEFghijk_000001_000011,test\n")
    resolved = resolve_splits(published, ["run/v_1", "run/ABCDEFGHIJK_000001_000011"])
    assert resolved.splits == {"x": {"test": ["run/v_1"]}}
    assert resolved.unmatched == ("run/abcDEFghijk_000001_000011",)


def test_an_exact_fit_comes_before_others() -> None:
    published = parse_split_file("x.csv", "path,split\nrun/a_b.avi,test\n")
    ids = ["RUN/a_b", "deep/run/a_b", "run/a b", "run/a_b", "a_b"]
    assert resolve_splits(published, ids).splits == {"x": {"test": ["run/a_b"]}}
    assert resolve_splits(published, ids[:3]).splits == {"x": {"test": ["run/a b"]}}


def test_an_unknown_file_name_is_refused() -> None:
    assert not is_split_file("notes.txt")
    with pytest.raises(UsageError, match=r"trainlistNN\.txt"):
        parse_split_file("notes.txt", "")


def test_entries_that_match_nothing_are_reported() -> None:
    resolved = resolve_splits(parse_split_file("trainlist01.txt", UCF101_TRAIN), UCF101_IDS[:1])
    assert resolved.unmatched == ("Basketball/v_Basketball_g08_c01.avi",)


def test_the_same_name_in_another_folder_does_not_match() -> None:
    published = parse_split_file("x.csv", "path,split\nrun/1.avi,train\n")
    assert resolve_splits(published, ["jump/1"]).unmatched == ("run/1.avi",)


def test_an_entry_that_fits_two_videos_is_refused() -> None:
    published = parse_split_file("x.csv", "path,split\n1.avi,train\n")
    with pytest.raises(UsageError, match=r"jump/1.*run/1"):
        resolve_splits(published, ["jump/1", "run/1"])


def test_a_video_in_two_roles_of_one_split_is_refused() -> None:
    published = parse_split_file("x.csv", "path,split\nrun/1.avi,train\nrun/1,test\n")
    with pytest.raises(UsageError, match=r"'run/1' is in train and in test"):
        resolve_splits(published, ["run/1"])


def test_a_video_may_have_other_roles_in_other_splits() -> None:
    parts = [parse_split_file("a.csv", "path,split\n1,train\n"), parse_split_file("b.csv", "path,split\n1,test\n")]
    assert resolve_splits(merge_splits(parts), ["1"]).splits == {"a": {"train": ["1"]}, "b": {"test": ["1"]}}


sizes = st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=6)


def videos_of(class_sizes: list[int]) -> tuple[list[str], list[str]]:
    pairs = [(f"c{c}/v{v}", f"c{c}") for c, size in enumerate(class_sizes) for v in range(size)]
    return [video_id for video_id, _ in pairs], [label for _, label in pairs]


@given(sizes, st.integers(), st.sampled_from([0.1, 0.2, 0.5]))
def test_a_random_split_is_disjoint_complete_and_stratified(class_sizes: list[int], seed: int, share: float) -> None:
    ids, labels = videos_of(class_sizes)
    roles = random_split(ids, labels, seed, share)["random"]
    assert sorted(roles["train"] + roles["test"]) == sorted(ids)
    for label, size in enumerate(class_sizes):
        num_test = sum(video_id.startswith(f"c{label}/") for video_id in roles["test"])
        assert abs(num_test - size * share) <= 1
        assert 0 < num_test < size or size == 1


@given(sizes, st.integers(min_value=0, max_value=10))
def test_one_more_video_moves_at_most_one_other(class_sizes: list[int], seed: int) -> None:
    ids, labels = videos_of(class_sizes)
    before = set(random_split(ids, labels, seed)["random"]["test"])
    after = set(random_split([*ids, "c0/new"], [*labels, "c0"], seed)["random"]["test"])
    assert len((before ^ after) - {"c0/new"}) <= 1


def test_the_order_does_not_matter_and_the_seed_does() -> None:
    ids, labels = videos_of([20, 20])
    assert random_split(ids, labels) == random_split(ids[::-1], labels[::-1])
    assert random_split(ids, labels, seed=0) != random_split(ids, labels, seed=1)
