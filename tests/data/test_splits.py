import numpy as np
import pytest

from headstart.data.splits import folds, make_split, read_split, save_split, split_notes
from headstart.errors import DataError, RecipeError


def images(n_classes, n_each):
    return [f"class {c}" for c in range(n_classes) for _ in range(n_each)]


def alone(labels):
    return np.arange(len(labels))


def split_of(labels, groups=None, seed=0, **options):
    groups = alone(labels) if groups is None else groups
    options.setdefault("given", [None] * len(labels))
    return make_split(labels, groups, seed=seed, **options)


def counts(labels, split):
    """Images of each class in train, val and test."""
    names, array = np.array(split.names()), np.array(labels)
    return {
        label: tuple(
            int(np.sum((array == label) & (names == part))) for part in ("train", "val", "test")
        )
        for label in sorted(set(labels))
    }


def random_problem(seed):
    """Uneven classes; groups of 1 to 5 images, some of several classes."""
    rng = np.random.default_rng(seed)
    labels = [f"c{c}" for c in range(rng.integers(2, 9)) for _ in range(rng.integers(1, 40))]
    groups = np.arange(len(labels))
    for _ in range(rng.integers(0, len(labels) // 3 + 1)):
        members = rng.choice(len(labels), size=min(len(labels), rng.integers(2, 6)), replace=False)
        if rng.random() < 0.7:
            members = [m for m in members if labels[m] == labels[members[0]]]
        groups[members] = groups[members[0]]
    return labels, groups


@pytest.mark.parametrize("seed", range(60))
def test_every_split_is_complete_and_no_group_straddles(seed):
    labels, groups = random_problem(seed)
    split = split_of(labels, groups, seed=seed)
    together = np.concatenate([split.train, split.val, split.test])
    assert sorted(together.tolist()) == list(range(len(labels)))
    for part in (split.train, split.val, split.test):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    names = np.array(split.names())
    for group in np.unique(groups):
        assert len(set(names[groups == group])) == 1


@pytest.mark.parametrize("seed", range(60))
def test_every_class_is_in_each_part_as_far_as_its_groups_allow(seed):
    labels, groups = random_problem(seed)
    array = np.array(labels)
    shared = {g for g in groups if len(set(array[groups == g])) > 1}
    for label, (train, val, test) in counts(labels, split_of(labels, groups, seed=seed)).items():
        own = set(groups[array == label])
        assert train >= 1
        if len(own) >= 2 and own - shared:
            assert test >= 1
        if len(own) >= 4 and not own & shared:
            assert val >= 1


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (1, (1, 0, 0)),
        (2, (1, 0, 1)),
        (3, (2, 0, 1)),
        (4, (2, 1, 1)),
        (5, (3, 1, 1)),
        (8, (5, 1, 2)),
        (80, (51, 9, 20)),
    ],
)
def test_class_sizes_by_hand(n, expected):
    # 80 images: a quarter is 20, and 15 % of the other 60 is 9.
    labels = images(2, n)
    assert counts(labels, split_of(labels)) == {"class 0": expected, "class 1": expected}


@pytest.mark.parametrize("test_share", [0.05, 0.6, 0.95])
def test_small_classes_keep_an_image_in_train_whatever_the_shares(test_share):
    labels = images(1, 1) + ["b"] * 2 + ["c"] * 4
    found = counts(labels, split_of(labels, test_share=test_share))
    assert found["class 0"] == (1, 0, 0)
    assert found["b"] == (1, 0, 1)
    assert min(found["c"]) >= 1


def test_shares_hold_with_groups():
    labels = images(17, 80)
    rng = np.random.default_rng(0)
    groups = np.arange(len(labels))
    for first in rng.choice(17 * 80 - 1, size=120, replace=False):
        if labels[first] == labels[first + 1]:
            groups[first + 1] = groups[first]
    for train, val, test in counts(labels, split_of(labels, groups)).values():
        assert test == pytest.approx(20, abs=2)
        assert val == pytest.approx(9, abs=2)
        assert train == pytest.approx(51, abs=2)


def test_large_groups_do_not_spoil_the_shares():
    # Groups of 40, 20, 10, 5, 3 and two single images; wanted are 51, 9 and 20 of 80.
    labels = images(2, 80)
    one = np.repeat(np.arange(7), [40, 20, 10, 5, 3, 1, 1])
    groups = np.concatenate([one, one + 7])
    for seed in range(10):
        for train, val, test in counts(labels, split_of(labels, groups, seed=seed)).values():
            assert (train, test) == (50, 20) or (train, test) == (51, 20)
            assert val in (9, 10)


def test_groups_of_several_classes_are_evened_out():
    # 40 patients with 3 images of one class and 1 to 3 of the other.
    rng = np.random.default_rng(0)
    labels, groups = [], []
    for patient in range(40):
        for label, n in (("ill", 3), ("well", int(rng.integers(1, 4)))):
            labels += [label] * n
            groups += [patient] * n
    for seed in range(10):
        split = split_of(labels, np.array(groups), seed=seed)
        for label, found in counts(labels, split).items():
            wanted = np.array([0.6375, 0.1125, 0.25]) * labels.count(label)
            assert np.abs(np.array(found) - wanted).max() <= 6  # two patients


def test_train_wins_where_classes_contend_for_a_group():
    # a and c live in one group each, which must be in train; so b, which has no other, is too.
    labels = ["a", "b", "b", "c", "d", "d"]
    groups = np.array([0, 0, 1, 1, 2, 3])
    found = counts(labels, split_of(labels, groups))
    assert found == {"a": (1, 0, 0), "b": (2, 0, 0), "c": (1, 0, 0), "d": (1, 0, 1)}


def test_the_scarcest_class_is_served_first():
    # a needs group 0 in train, so b can reach test only through group 1, whatever the seed.
    labels = ["a", "b", "b", "c", "c"]
    groups = np.array([0, 0, 1, 1, 2])
    for seed in range(20):
        found = counts(labels, split_of(labels, groups, seed=seed))
        assert found == {"a": (1, 0, 0), "b": (1, 0, 1), "c": (1, 0, 1)}


def test_groups_of_several_classes_go_first():
    # b needs group 0 in train; so the image that a has to itself must be kept for test.
    labels, groups = ["a", "a", "b"], np.array([0, 1, 0])
    for seed in range(10):
        found = counts(labels, split_of(labels, groups, seed=seed))
        assert found == {"a": (1, 0, 1), "b": (1, 0, 0)}


def test_a_rare_class_is_not_drowned_by_a_frequent_one():
    # 60 patients with 5 to 15 images that are well, every third with one that is ill.
    rng = np.random.default_rng(0)
    labels, groups = [], []
    for patient in range(60):
        n_well, n_ill = int(rng.integers(5, 16)), int(patient % 3 == 0)
        labels += ["well"] * n_well + ["ill"] * n_ill
        groups += [patient] * (n_well + n_ill)
    for seed in range(20):
        train, val, test = counts(labels, split_of(labels, np.array(groups), seed=seed))["ill"]
        assert (train, val, test) == pytest.approx((12.75, 2.25, 5), abs=1.3)


def test_the_seed_decides():
    labels = images(5, 30)
    first, again, other = (split_of(labels, seed=seed) for seed in (1, 1, 2))
    assert first.names() == again.names()
    assert first.names() != other.names()


def test_every_image_reaches_the_test_set_equally_often():
    labels = images(2, 12)
    groups = np.array([0, 0, *range(2, 24)])  # a pair of near-duplicates among single images
    often = np.zeros(24)
    for seed in range(400):
        often[split_of(labels, groups, seed=seed, test_share=0.5).test] += 1
    assert often[2:] / 400 == pytest.approx(0.5, abs=0.12)


def test_a_given_split_is_kept():
    labels = images(2, 3)
    given = ["test", "train", "val"] * 2
    split = split_of(labels, given=given)
    assert split.names() == given


def test_val_is_cut_from_train_where_it_is_not_given():
    labels = images(2, 40)
    given = (["test"] * 20 + ["train"] * 20) * 2
    split = split_of(labels, given=given)
    assert split.test.tolist() == [*range(20), *range(40, 60)]
    assert counts(labels, split) == {"class 0": (17, 3, 20), "class 1": (17, 3, 20)}
    groups = alone(labels)
    groups[[20, 21, 22, 23, 24]] = 20
    val = set(split_of(labels, groups, given=given).val.tolist())
    assert len(val & {20, 21, 22, 23, 24}) in (0, 5)


def test_three_training_images_give_one_to_val():
    labels = images(2, 4)
    split = split_of(labels, given=["test", "train", "train", "train"] * 2)
    assert counts(labels, split) == {"class 0": (2, 1, 1), "class 1": (2, 1, 1)}


def test_test_is_cut_from_train_where_it_is_not_given():
    labels = images(2, 40)
    given = (["val"] * 20 + ["train"] * 20) * 2
    split = split_of(labels, given=given)
    assert split.val.tolist() == [*range(20), *range(40, 60)]
    assert counts(labels, split) == {"class 0": (15, 20, 5), "class 1": (15, 20, 5)}


def test_all_given_as_train_is_cut_like_none_given():
    labels = images(3, 20)
    assert split_of(labels, given=["train"] * 60).names() == split_of(labels).names()


def test_a_given_split_with_gaps_names_the_first():
    labels = images(2, 2)
    given = ["train", None, "test", None]
    with pytest.raises(DataError, match=r"2 of 4 images have no split.* 'b\.jpg'"):
        split_of(labels, given=given, keys=["a.jpg", "b.jpg", "c.jpg", "d.jpg"])


def test_a_given_split_must_not_part_a_group():
    labels = images(2, 2)
    given = ["train", "test", "train", "test"]
    keys = ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    with pytest.raises(DataError, match=r"'c\.jpg' \(train\) and 'd\.jpg' \(test\).* one group"):
        split_of(labels, np.array([0, 1, 2, 2]), given=given, keys=keys)


def test_a_given_split_needs_every_class_in_train():
    with pytest.raises(DataError, match="no training images"):
        split_of(images(2, 1), given=["test", "val"])
    with pytest.raises(DataError, match=r"'class 1' has images in test \(number 2\)"):
        split_of(images(2, 2), given=["train", "train", "test", "test"])


def test_bad_requests_are_refused():
    for share in (0.0, 1.0, -0.1):
        with pytest.raises(RecipeError, match="test share must be between 0 and 1"):
            split_of(images(2, 5), test_share=share)
        with pytest.raises(RecipeError, match="val share"):
            split_of(images(2, 5), val_share=share)
    with pytest.raises(DataError, match="no images"):
        split_of([])
    with pytest.raises(ValueError, match="one entry per image"):
        make_split(["a", "b"], np.arange(2), given=[None], seed=0)


def test_notes_name_the_classes_that_a_part_lacks():
    labels = ["a"] * 1 + ["b"] * 3 + ["c"] * 10
    notes = split_notes(labels, split_of(labels))
    assert len(notes) == 2
    assert "in val" in notes[0] and notes[0].startswith("Classes 'a' and 'b' have")
    assert "in test" in notes[1] and notes[1].startswith("Class 'a' has")
    assert split_notes(images(2, 10), split_of(images(2, 10))) == ()


@pytest.mark.parametrize("seed", range(20))
def test_folds_are_stratified_and_grouped(seed):
    labels, groups = random_problem(seed)
    if len(np.unique(groups)) < 3:
        pytest.skip("too few groups for 3 folds")
    fold = folds(labels, groups, 3, seed)
    assert set(fold.tolist()) == {0, 1, 2}
    for group in np.unique(groups):
        assert len(set(fold[groups == group])) == 1


def test_fold_sizes_by_hand():
    labels = [*images(3, 10), "rare"]
    fold = folds(labels, alone(labels), 5, seed=0)
    array = np.array(labels)
    for c in range(3):
        assert np.bincount(fold[array == f"class {c}"]).tolist() == [2] * 5
    assert sorted(np.bincount(fold).tolist()) == [6, 6, 6, 6, 7]
    # 7 a class leave 2 over in each of 5 classes, which must not pile up in the same folds.
    labels = images(5, 7)
    assert np.bincount(folds(labels, alone(labels), 5, seed=0)).tolist() == [7] * 5


def test_folds_are_seeded():
    labels = images(3, 20)
    first, again, other = (folds(labels, alone(labels), 4, seed) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_more_folds_than_groups_are_refused():
    with pytest.raises(DataError, match="5 folds need at least 5"):
        folds(images(2, 10), np.repeat(np.arange(4), 5), 5, seed=0)
    with pytest.raises(ValueError, match="at least 2 folds"):
        folds(images(2, 10), np.arange(20), 1, seed=0)


def test_a_split_file_can_be_given_back(tmp_path):
    labels = images(3, 20)
    keys = [f"class {i}, «ü»/im\udcffage {i}\n.jpg" if i % 2 else f"-{i}.jpg" for i in range(60)]
    split = split_of(labels, seed=5)
    path = tmp_path / "split.csv"
    save_split(path, split, keys)
    assert path.read_bytes().splitlines()[:2] == [
        b"path,split",
        f"'-0.jpg,{split.names()[0]}".encode(),
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["split.csv"]
    given = read_split(path, keys[::-1])
    assert given == split.names()[::-1]
    again = split_of(labels, seed=99, given=given[::-1])
    assert again.names() == split.names()


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="argument"):
        save_split(tmp_path / "split.csv", split_of(images(2, 4)), ["a.jpg"])
    with pytest.raises(IsADirectoryError):
        (tmp_path / "taken").mkdir()
        save_split(tmp_path / "taken", split_of(images(2, 1)), ["a.jpg", "b.jpg"])
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_a_split_file_from_a_spreadsheet_reads(tmp_path):
    path = tmp_path / "split.csv"
    path.write_bytes(
        "\ufeffsplit,path,who\r\nVal ,a.jpg,me\r\nvalid,b.jpg,\r\ntest,c.jpg,\r\n".encode()
    )
    assert read_split(path, ["a.jpg", "b.jpg", "c.jpg"]) == ["val", "val", "test"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,split\na.jpg,train\n", r"no line for 1 of 2 images, the first being 'b\.jpg'"),
        ("path,split\na.jpg,train\nc.jpg,val\n", r"Line 3 .* names 'c\.jpg', which is not among"),
        ("path,split\na.jpg,train\na.jpg,val\n", r"repeats 'a\.jpg' in line 3"),
        ("path,split\na.jpg,tarin\n", r"Line 2 .* 'tarin'; did you mean 'train'\?"),
        ("path,split\na.jpg\n", r"Line 2 .* the unknown split ''. Use train, val or test"),
        ("a.jpg,train\nb.jpg,val\n", "first line that names the columns path,split"),
        ("", "first line that names the columns path,split"),
        ('path,split\n"a.jpg,train\n', "cannot be read: unexpected end of data"),
    ],
)
def test_a_bad_split_file_says_where(tmp_path, text, message):
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_split(path, ["a.jpg", "b.jpg"])


def test_a_split_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_split(tmp_path / "none.csv", [])
