"""Official lists with the quirks of the published files: the lines are shaped like theirs and name invented videos."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import pytest
from trees import labels, read_listed

from mfcd_core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

HANDSTAND = "HandstandPushups/v_HandStandPushups_g01_c01.avi"
CLASSES = "1 ApplyEyeMakeup\r\n2 Basketball\r\n3 HandstandPushups\r\n"
TRAIN = f"ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\r\nBasketball/v_Basketball_g08_c01.avi 2 \r\n{HANDSTAND} 3\r\n"
TEST = "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\n\r\n"
UCF101 = [line.split()[0] for line in (TRAIN + TEST).split("\r\n") if line]
KINETICS = (
    "label,youtube_id,time_start,time_end,split,is_cc\r\n"
    'abseiling,-3B32lodo2M,59,69,train,0\r\n"playing (american) football",--wnH7LVUYA,1,11,val,1\r\n'
    '"tango, dancing",0ab_cdEFG-h,7.0,17.0,train,0\r\nsinging 9" nails,zzzzzzzzzzz,0,10,test,0\r\n'
)
CLIPS = {
    "-3B32lodo2M_000059_000069": "abseiling",
    "--wnH7LVUYA_000001_000011": "playing (american) football",
    "0ab_cdEFG-h_000007_000017": "tango, dancing",
    "zzzzzzzzzzz_000000_000010": 'singing 9" nails',
}


def test_ucf101_lists_restrict_and_label(tmp_path: Path) -> None:
    catalog = read_listed(tmp_path, [*UCF101, "Basketball/v_x.avi"], trainlist01_txt=TRAIN, testlist01_txt=TEST)
    assert labels(catalog) == {path: path.split("/")[0] for path in UCF101}
    assert (catalog.unmatched, catalog.classes) == ((), None)


@pytest.mark.parametrize("layout", ["{name}", "train/{name}", "videos/{folder}/{name}", "HandStandPushups/{name}"])
def test_ucf101_videos_are_found_wherever_they_lie(tmp_path: Path, layout: str) -> None:
    folder, name = HANDSTAND.split("/")
    path = layout.format(folder=folder, name=name)
    assert labels(read_listed(tmp_path, [path], trainlist01_txt=f"{HANDSTAND} 3\n")) == {path: "HandstandPushups"}


@pytest.mark.parametrize("disk", ["v_HandstandPushups_g01_c01.avi", "v_HandStandPushups_g01_c01.mp4"])
def test_case_and_extension_of_a_converted_copy_do_not_matter(tmp_path: Path, disk: str) -> None:
    path = f"HandstandPushups/{disk}"
    assert set(labels(read_listed(tmp_path, [path], testlist01_txt=f"{HANDSTAND}\n"))) == {path}


def test_the_published_extension_tells_two_files_apart(tmp_path: Path) -> None:
    files = [HANDSTAND, HANDSTAND.replace(".avi", ".mp4")]
    assert set(labels(read_listed(tmp_path, files, testlist01_txt=f"{HANDSTAND}\n"))) == {HANDSTAND}
    with pytest.raises(UsageError, match=r"testlist01\.txt line 1.*\.avi.*\.mp4"):
        read_listed(tmp_path, [], testlist01_txt=f"{HANDSTAND[:-4]}\n")


def test_a_class_index_gives_order_and_spelling(tmp_path: Path) -> None:
    classes = "3 HandStandPushups\n1 Basketball\n2 ApplyEyeMakeup\n"
    train = TRAIN.replace("01.avi 1", "01.avi 0").replace("01.avi 2", "01.avi 1").replace("01.avi 0", "01.avi 2")
    catalog = read_listed(tmp_path, UCF101, trainlist01_txt=train, classInd_txt=classes)
    assert catalog.classes == ("Basketball", "ApplyEyeMakeup", "HandStandPushups")
    assert labels(catalog)[HANDSTAND] == "HandStandPushups"
    assert len(catalog) == 3


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("trainlist01_txt", TRAIN.replace(" 2 ", " 3 "), r"trainlist01\.txt line 2.*'Basketball' as 3.*as 2"),
        ("trainlist01_txt", TRAIN.replace(" 2 ", " 9 "), r"trainlist01\.txt line 2.*'Basketball' as 9.*as 2"),
        ("testlist01_txt", f"{TEST}Yo/v_Yo_g01_c01.avi\n", r"testlist01\.txt line 3.*'Yo'.*not at all"),
    ],
)
def test_lists_must_agree_with_the_class_index(tmp_path: Path, key: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_listed(tmp_path, UCF101, **{key: text, "classInd_txt": CLASSES})


def test_hmdb51_names_of_every_kind_are_read(tmp_path: Path) -> None:
    names = [
        "#437_How_To_Ride_A_Bike_ride_bike_f_cm_np1_ba_med_0.avi",
        "lesson two (part 1)_ride_bike_f_cm_np1_ba_med_1.avi",
        "Who_[x]_&_y!;'~_ride_bike_u_nm_np2_le_goo_2.avi",
        "-dash_ride_bike_h_nm_np1_fr_bad_10.avi",
    ]
    text = "".join(f"{name} {number} \r\n" for number, name in enumerate(names[1:]))
    paths = [f"ride_bike/{name}" for name in names]
    catalog = read_listed(tmp_path, paths, ride_bike_test_split1_txt=f"{names[0]} 1 \r\n{text}")
    assert labels(catalog) == dict.fromkeys((paths[0], *paths[2:]), "ride_bike")  # code 0: not in this split


def test_hmdb51_labels_come_from_the_names_of_the_lists(tmp_path: Path) -> None:
    waving, kick = "a_wave_u_nm_np1_fr_med_0.avi", "b_kick_ball_f_cm_np1_ba_goo_1.avi"
    catalog = read_listed(
        tmp_path, [waving, f"all/{kick}"], wave_test_split2_txt=f"{waving} 1\n", kick_ball_test_split2_txt=f"{kick} 2\n"
    )
    assert labels(catalog) == {waving: "wave", f"all/{kick}": "kick_ball"}


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("layout", ["{label}/{clip}", "train/{under}/{clip}", "{clip}", "replacement_1/{clip}"])
def test_kinetics_labels_come_from_the_list(tmp_path: Path, layout: str, bom: str) -> None:
    paths = {
        f"{layout.format(label=label, under=label.replace(' ', '_'), clip=clip)}.mp4": label
        for clip, label in CLIPS.items()
    }
    catalog = read_listed(tmp_path, [*paths, "train/x.mp4"], train_csv=bom + KINETICS)
    assert labels(catalog) == paths
    assert catalog.unmatched == ()


def test_kinetics_columns_may_be_more_and_in_another_order(tmp_path: Path) -> None:
    text = "Split, youtube_id,replacement,label,time_end,time_start\ntrain,abcdefghijk,1,yoga,11,1\n"
    catalog = read_listed(tmp_path, ["r/abcdefghijk_000001_000011.mkv"], k_csv=text)
    assert labels(catalog) == {"r/abcdefghijk_000001_000011.mkv": "yoga"}


def test_a_kinetics_list_without_labels_leaves_the_folder_to_say(tmp_path: Path) -> None:
    text = "youtube_id,time_start,time_end,split\nabcdefghijk,1,11,test\nABCdefghijk,1,11,test\n"
    catalog = read_listed(tmp_path, ["yoga/abcdefghijk_000001_000011.mp4"], test_csv=text)
    assert labels(catalog) == {"yoga/abcdefghijk_000001_000011.mp4": "yoga"}
    assert catalog.unmatched == ("ABCdefghijk_000001_000011",)  # in YouTube's ids case counts


@pytest.mark.parametrize("times", ["nan,1", "inf,1", ",1", "1,", "a,b"])
def test_kinetics_times_that_are_no_times_are_named(tmp_path: Path, times: str) -> None:
    with pytest.raises(UsageError, match=r"k\.csv line 2"):
        read_listed(tmp_path, [], k_csv=f"label,youtube_id,time_start,time_end,split\nyoga,a,{times},train\n")


def test_a_file_in_the_folder_of_another_class_is_an_error(tmp_path: Path) -> None:
    files = ["train/tango, dancing/-3B32lodo2M_000059_000069.mp4"]
    with pytest.raises(UsageError, match=r"train\.csv line 2.*'abseiling'.*'tango, dancing'"):
        read_listed(tmp_path, [*files, "0ab_cdEFG-h_000007_000017.mp4"], train_csv=KINETICS)


def test_two_lists_that_give_one_video_two_classes_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"b\.csv line 2.*'yoga'.*'abseiling'"):
        read_listed(
            tmp_path,
            ["-3B32lodo2M_000059_000069.mp4"],
            a_csv=KINETICS,
            b_csv=KINETICS.replace("abseiling", "yoga"),
        )


def test_a_csv_may_have_labels_and_else_its_folders_are_labels(tmp_path: Path) -> None:
    text = "path,split,label\n./run//1.avi,train,\n2.avi,test,jump high\n3,val,\n"
    catalog = read_listed(tmp_path, ["deep/run/1.avi", "2.avi", "walk/3.avi"], by_csv=text)
    assert labels(catalog) == {"deep/run/1.avi": "run", "2.avi": "jump high", "walk/3.avi": "walk"}


def test_plain_and_official_lists_add_up(tmp_path: Path) -> None:
    catalog = read_listed(
        tmp_path, [*UCF101, "other/1.avi", "2.avi"], testlist01_txt=TEST, more_txt="other/1.avi run\n"
    )
    assert labels(catalog) == {UCF101[-1]: "ApplyEyeMakeup", "other/1.avi": "run"}


def test_a_video_in_two_roles_of_one_split_is_found_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in train and in test of split 'split1'"):
        read_listed(tmp_path, UCF101, trainlist01_txt=TRAIN, testlist01_txt=TRAIN)


def test_entries_without_a_file_are_kept_once_as_published(tmp_path: Path) -> None:
    catalog = read_listed(tmp_path, UCF101[:1], trainlist01_txt=TRAIN, trainlist02_txt=TRAIN)
    assert catalog.unmatched == tuple(UCF101[1:3])


def test_an_official_entry_in_another_normal_form_is_found(tmp_path: Path) -> None:
    nfc, nfd = (unicodedata.normalize(form, "Café_wave_u_nm_np1_fr_med_0.avi") for form in ("NFC", "NFD"))
    latin = f"{nfc} 1\r\n".encode("latin-1")
    assert labels(read_listed(tmp_path, [f"wave/{nfd}"], wave_test_split1_txt=latin)) == {f"wave/{nfd}": "wave"}
