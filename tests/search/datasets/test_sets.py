"""Which images are for what: parts, classes, subsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from effvit.config import ConfigError
from search.datasets import DataSettings, ImageSet, held_out_images, load_data
from search.datasets import sets as sets_module
from search.datasets.images import CIFAR10, CIFAR100, IntArray
from search.datasets.layouts import Layout
from search.proxy import digits
from tests.search.datasets.folders import COLOURS, write_cifar, write_images, write_parts


def numbers(images: object) -> set[int]:
    assert isinstance(images, ImageSet)
    return set(images.chosen.tolist())


class Numbered:
    """Images that are their numbers."""

    def __init__(self, counts: Sequence[int]) -> None:
        self.classes = tuple(f"class {number}" for number in range(len(counts)))
        labels = np.repeat(np.arange(len(counts)), counts)
        self.labels: IntArray | None = np.random.default_rng(0).permutation(labels)
        self._size = len(labels)

    def __len__(self) -> int:
        return self._size

    def read(self, index: int) -> tuple[Image.Image, int]:
        assert self.labels is not None
        return Image.new("RGB", (1, 1), (index % 256, 0, 0)), int(self.labels[index])


@pytest.fixture
def numbered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Numbered]:
    """Make :func:`load_data` read numbered images, of which nothing comes in parts."""

    def install(counts: Sequence[int]) -> Numbered:
        images = Numbered(counts)
        monkeypatch.setattr(sets_module, "find_layout", lambda _: Layout(lambda: images))
        return images

    return install


# --- parts ----------------------------------------------------------------------------------------


def test_the_embedded_data_set_is_the_digits_in_their_parts() -> None:
    data, test = load_data(DataSettings()), held_out_images(DataSettings())
    assert data.classes == tuple("0123456789")
    assert data.validation is not None
    sizes = [len(digits.split_sources(split)) for split in digits.Split]
    assert [len(data.train), len(data.validation)] == sizes
    assert len(test) == len(digits.held_out_sources())


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    share=st.floats(0.0, 0.4),
)
def test_parts_that_are_cut_are_disjoint_complete_and_even(counts: list[int], share: float) -> None:
    images = Numbered(counts)
    parts = sets_module._cut(images, DataSettings(validation=share), Layout(lambda: images))
    joined = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(joined.tolist()) == list(range(sum(counts)))
    assert images.labels is not None
    for label, count in enumerate(counts):
        held = [int((images.labels[p] == label).sum()) for p in (parts.validation, parts.test)]
        wanted = max(1, round(share * count)) if share else 0
        assert held == [min(wanted, count - 1), min(wanted, max(0, count - 1 - held[0]))]


def test_the_cut_is_the_same_whatever_else_is_asked_for(
    numbered: Callable[..., Numbered],
) -> None:
    numbered([20, 30, 40])
    everything = load_data(folder_settings())
    few = load_data(folder_settings(classes=2, subset=0.5))
    assert numbers(few.train) < numbers(everything.train)
    assert numbers(few.validation) < numbers(everything.validation)
    again = load_data(folder_settings())
    assert numbers(again.train) == numbers(everything.train)


def folder_settings(**changes: float | int) -> DataSettings:
    """Settings of a data set other than the embedded one."""
    return DataSettings(source="some folder", **changes)  # type: ignore[arg-type]


def test_subsets_are_nested_and_keep_the_shares_of_classes(
    numbered: Callable[..., Numbered],
) -> None:
    images = numbered([50, 100])
    found = [load_data(folder_settings(subset=s)).train for s in (0.1, 0.5, 1.0)]
    assert numbers(found[0]) < numbers(found[1]) < numbers(found[2])
    half = found[1]
    assert isinstance(half, ImageSet)
    assert half.labels is not None
    # Of 50 and 100 images 5 and 10 are validation, and as many are test.
    assert np.bincount(half.labels).tolist() == [20, 40]
    assert len(images) == 150


def test_a_number_of_images_is_a_subset_too(numbered: Callable[..., Numbered]) -> None:
    numbered([50, 100])
    assert len(load_data(folder_settings(subset=30)).train) == 30
    with pytest.raises(ConfigError, match="at most the 120 training images, got 121"):
        load_data(folder_settings(subset=121))


def test_without_a_validation_share_all_is_for_training(
    numbered: Callable[..., Numbered],
) -> None:
    numbered([5, 5])
    data = load_data(folder_settings(validation=0))
    assert (len(data.train), data.validation) == (10, None)
    with pytest.raises(ConfigError, match="has no test images"):
        held_out_images(folder_settings(validation=0))


def test_unknown_labels_are_cut_at_random(numbered: Callable[..., Numbered]) -> None:
    images = numbered([10, 10])
    images.labels = None
    data = load_data(folder_settings())
    assert data.validation is not None
    assert (len(data.train), len(data.validation)) == (16, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 1}, "classes must be at least 2"),
        ({"subset": 0}, "subset must be"),
        ({"subset": 2.5}, "subset must be"),
        ({"validation": 1.0}, "validation must be"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        folder_settings(**changes)


# --- folders --------------------------------------------------------------------------------------

TEN = dict.fromkeys(COLOURS, 10)
FEW = dict.fromkeys(COLOURS, 4)


def sizes(source: Path, **changes: str) -> tuple[int, int, int]:
    wanted = DataSettings(source=str(source), **changes)  # type: ignore[arg-type]
    data = load_data(wanted)
    assert data.classes == ("blue", "green", "red")
    assert data.validation is not None
    return len(data.train), len(data.validation), len(held_out_images(wanted))


def test_a_folder_of_classes_is_cut_into_three(tmp_path: Path) -> None:
    assert sizes(write_images(tmp_path / "flat", TEN)) == (24, 3, 3)


def test_a_lone_training_folder_is_cut_into_three(tmp_path: Path) -> None:
    assert sizes(write_parts(tmp_path, train=TEN)) == (24, 3, 3)


@pytest.mark.parametrize("second", ["val", "test", "validation"])
def test_of_two_parts_the_second_is_the_test(tmp_path: Path, second: str) -> None:
    assert sizes(write_parts(tmp_path, train=TEN, **{second: FEW})) == (27, 3, 12)


def test_three_parts_are_what_they_are_called(tmp_path: Path) -> None:
    root = write_parts(tmp_path, train=TEN, val=FEW, test=dict.fromkeys(COLOURS, 2))
    assert sizes(root) == (30, 12, 6)


def test_parts_can_have_other_names(tmp_path: Path) -> None:
    root = write_parts(tmp_path, train=TEN, odd=FEW, final=dict.fromkeys(COLOURS, 2))
    assert sizes(root, validation_part="odd", test_part="final") == (30, 12, 6)
    with pytest.raises(ConfigError, match="no part 'missing'"):
        sizes(root, test_part="missing")


def test_imagenet_as_its_archive_has_it(tmp_path: Path) -> None:
    root = write_parts(tmp_path / "ILSVRC" / "Data" / "CLS-LOC", train=TEN, val=FEW)
    (root / "test").mkdir()
    (root / "test" / "unlabelled.png").touch()
    assert sizes(tmp_path) == (27, 3, 12)


@pytest.mark.parametrize(("kind", "files", "classes"), [(CIFAR10, 5, 10), (CIFAR100, 1, 100)])
@pytest.mark.parametrize("inside", [True, False])
def test_cifar_as_released(
    tmp_path: Path, kind: str, files: int, classes: int, inside: bool
) -> None:
    folder = write_cifar(tmp_path, kind, images=200)
    wanted = DataSettings(source=str(folder if inside else tmp_path))
    data = load_data(wanted)
    assert len(data.classes) == classes
    assert data.validation is not None
    assert len(data.train) + len(data.validation) == 200 * files
    assert len(held_out_images(wanted)) == 200


def test_cifar_pixels_are_channels_then_rows(tmp_path: Path) -> None:
    write_cifar(tmp_path, CIFAR10)
    images = held_out_images(DataSettings(source=str(tmp_path)))
    assert isinstance(images, ImageSet)
    pixels, label = images.transformed(as_tensor)[3]
    # Pixel k of image 3 is (3 + k) % 256; k = 1024 c + 32 y + x.
    assert label == 3
    assert pixels[2, 5, 7] == (3 + 1024 * 2 + 32 * 5 + 7) % 256


# --- reading --------------------------------------------------------------------------------------


def as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def noisy(image: Image.Image) -> Tensor:
    return as_tensor(image) + torch.rand(1) + float(np.random.rand())  # noqa: NPY002 - as libraries


def test_a_transform_draws_from_the_seed_it_is_given_and_leaves_no_trace() -> None:
    data = load_data(DataSettings())
    assert isinstance(data.train, ImageSet)
    images = data.train.transformed(noisy)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    once, again, other = images[3, 5], images[3, 5], images[3, 6]
    assert torch.equal(once[0], again[0])
    assert not torch.equal(once[0], other[0])
    assert once[1] == again[1]
    assert torch.equal(torch.rand(1), expected)


def test_images_without_a_transform_say_so() -> None:
    data = load_data(DataSettings())
    assert isinstance(data.train, ImageSet)
    with pytest.raises(ConfigError, match="need a transform"):
        data.train[0]
