"""Data sets that are missing or broken, and those that timm opens."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from timm.data.dataset import IterableImageDataset
from torch import Tensor
from torch.utils.data import DataLoader

from effvit.config import ConfigError
from search.datasets import (
    BrokenImage,
    DataSettings,
    ImageSet,
    ImageStream,
    held_out_images,
    load_data,
    schemes,
)
from search.datasets.images import CIFAR10
from tests.search.datasets.folders import (
    COLOURS,
    write_cifar,
    write_images,
    write_parts,
    write_pickle,
)
from tests.search.datasets.test_sets import as_tensor

FEW = dict.fromkeys(COLOURS, 4)


def refused(source: object, *words: str, **changes: Any) -> None:  # noqa: ANN401
    """Opening the data set is one clear line."""
    with pytest.raises(ConfigError) as caught:
        load_data(DataSettings(source=str(source), **changes))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


# --- missing and broken ---------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "nothing", "nor is there such a folder")


def test_a_misspelt_name_offers_the_nearest() -> None:
    refused("digit", "did you mean 'digits'?")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file.zip").touch()
    refused(tmp_path / "file.zip", "neither a folder nor a tar file")


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "image.png")
    refused(tmp_path, "holds no folders of classes")


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, FEW)
    (tmp_path / "empty").mkdir()
    refused(tmp_path, "class 'empty'", "has no images")


def test_a_test_class_that_training_lacks_is_named(tmp_path: Path) -> None:
    root = write_parts(tmp_path, train=FEW, test={**FEW, "white": 1})
    load_data(DataSettings(source=str(root)))
    with pytest.raises(ConfigError, match="has class 'white', which the training part has not"):
        held_out_images(DataSettings(source=str(root)))


def test_more_classes_than_there_are_is_refused(tmp_path: Path) -> None:
    refused(write_images(tmp_path, FEW), "classes must be 2 to 3 here, got 4", classes=4)


@pytest.mark.parametrize("damage", ["cut", "text"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named(tmp_path: Path, damage: str, workers: int) -> None:
    write_images(tmp_path, FEW, side=64)
    path = tmp_path / "red" / "002.png"
    path.write_bytes(path.read_bytes()[:200] if damage == "cut" else b"no image")
    data = load_data(DataSettings(source=str(tmp_path), validation=0))
    assert isinstance(data.train, ImageSet)
    images = data.train.transformed(as_tensor)
    with pytest.raises(BrokenImage, match=f"cannot read image {path}"):
        list(DataLoader(images, 4, num_workers=workers))


def test_a_missing_file_of_cifar_is_named(tmp_path: Path) -> None:
    (write_cifar(tmp_path, CIFAR10) / "data_batch_4").unlink()
    refused(tmp_path, "data_batch_4 is missing")


def test_a_damaged_file_of_cifar_is_named(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path, CIFAR10)
    (folder / "data_batch_2").write_bytes(b"nonsense")
    refused(tmp_path, "data_batch_2 is not a file of CIFAR")
    write_pickle(folder / "data_batch_2", {"other": 1})
    refused(tmp_path, "data_batch_2 is not a file of CIFAR")


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm"),)


def test_a_file_of_cifar_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_cifar(tmp_path, CIFAR10)
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": Malicious()}))
    refused(tmp_path, "data_batch_1 is not a file of CIFAR", "it asks for")
    assert not (tmp_path / "harm").exists()


# --- timm -----------------------------------------------------------------------------------------


def test_a_scheme_whose_package_is_missing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'datasets'")

    monkeypatch.setattr(schemes, "create_dataset", missing)
    refused("hfds/some/set", "'hfds/some/set' needs a package", "datasets")


def test_an_unknown_name_of_a_scheme_is_one_line(tmp_path: Path) -> None:
    refused("torch/nothing", "timm cannot open data 'torch/nothing'", root=str(tmp_path))


def test_a_data_set_of_torchvision_through_timm(tmp_path: Path) -> None:
    root = write_parts(tmp_path, train=dict.fromkeys(COLOURS, 10), validation=FEW)
    wanted = DataSettings(source="torch/image_folder", root=str(root))
    data = load_data(wanted)
    assert data.classes == ("blue", "green", "red")
    assert data.validation is not None
    assert (len(data.train), len(data.validation)) == (27, 3)
    test = held_out_images(wanted)
    assert isinstance(test, ImageSet)
    assert len(test) == 12
    pixels, label = test.transformed(as_tensor)[11]
    assert label == 2
    assert int(pixels.float().mean((1, 2)).argmax()) == 0  # red


def test_a_tar_file_through_timm(tmp_path: Path) -> None:
    write_images(tmp_path / "images", dict.fromkeys(COLOURS, 10))
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        archive.add(tmp_path / "images", arcname=".")
    wanted = DataSettings(source=str(tmp_path / "images.tar"))
    data = load_data(wanted)
    assert data.classes == ("blue", "green", "red")
    assert (len(data.train), len(held_out_images(wanted))) == (24, 3)
    assert isinstance(data.train, ImageSet)
    pixels, label = data.train.transformed(as_tensor)[0]
    assert (label, int(pixels.float().mean((1, 2)).argmax())) == (0, 2)  # blue


def test_a_broken_image_of_timm_is_named_and_not_passed_over(tmp_path: Path) -> None:
    write_images(tmp_path / "images", FEW)
    (tmp_path / "images" / "blue" / "000.png").write_bytes(b"no image")
    with tarfile.open(tmp_path / "images.tar", "w") as archive:
        archive.add(tmp_path / "images", arcname=".")
    data = load_data(DataSettings(source=str(tmp_path / "images.tar"), validation=0))
    assert isinstance(data.train, ImageSet)
    with pytest.raises(BrokenImage, match="it is no image"):
        data.train.transformed(as_tensor)[0]


class Reader:
    """What timm reads a stream with: images whose red is the epoch, classes 0 and 1 in turns."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[tuple[Image.Image, int]]:
        for number in range(self._count):
            yield Image.new("RGB", (40, 40), (self._epoch, number, 0)), number % 2

    def __len__(self) -> int:
        return self._count


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Parts of a stream that were opened, as stand-ins of eight images."""
    opened: list[str] = []

    def create(name: str, root: str | None, split: str, **_: object) -> IterableImageDataset:
        opened.append(split)
        return IterableImageDataset(root, reader=Reader(8))

    monkeypatch.setattr(schemes, "create_dataset", create)
    return opened


def test_a_stream_gives_its_parts_epoch_by_epoch(streamed: list[str]) -> None:
    wanted = DataSettings(source="wds/some", root="folder", classes=2, validation_part="dev")
    data = load_data(wanted)
    assert streamed == ["train", "dev"]
    assert data.classes == ("0", "1")
    assert isinstance(data.train, ImageStream)
    epoch = list(data.train.transformed(as_tensor).of_epoch(3, seed=0, workers=0))
    assert [label for _, label in epoch] == [0, 1] * 4
    assert [pixels[:, 0, 0].tolist() for pixels, _ in epoch] == [[3, n, 0] for n in range(8)]
    held_out_images(wanted)
    assert streamed == ["train", "dev", "validation"]


def noise(_image: Image.Image) -> Tensor:
    return torch.rand(1)


def test_a_stream_draws_from_seed_and_epoch(streamed: list[str]) -> None:
    data = load_data(DataSettings(source="wds/some", classes=2))
    assert isinstance(data.train, ImageStream)
    images = data.train.transformed(noise)
    drawn = [
        [float(pixels) for pixels, _ in images.of_epoch(epoch, seed, workers=0)]
        for epoch, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert drawn[0] == drawn[1]
    assert len({tuple(each) for each in drawn}) == 3
    assert len(set(drawn[0])) == 8


def test_what_needs_an_index_is_refused_for_streams(streamed: list[str]) -> None:
    refused("wds/some", "say how many classes")
    refused("wds/some", "no subset", classes=2, subset=0.5)
    refused("wds/some", "cannot be validation and test", classes=2, validation_part="validation")
