"""The built-in digits: quick, the same everywhere, balanced, framed, and worth learning from."""

import hashlib
import time

import numpy as np
import pytest

from npvae.datasets.dataset import Dataset
from npvae.datasets.drawn_digits import drawn_digits


@pytest.fixture(scope="module")
def halves() -> tuple[Dataset, Dataset]:
    started = time.process_time()
    made = drawn_digits()
    assert time.process_time() - started < 10  # 0.4 s on an idle core, 1.5 s on a busy one
    return made


def test_shapes_and_balance(halves: tuple[Dataset, Dataset]) -> None:
    for half, count in zip(halves, (20_000, 2_000), strict=True):
        assert half.images.shape == (count, 28, 28)
        assert half.images.dtype == half.labels.dtype == np.uint8
        assert half.images.flags.c_contiguous
        assert np.bincount(half.labels).tolist() == [count // 10] * 10
        assert half.class_names == tuple("0123456789")
        assert half.name == "drawn-digits"
        assert half.source == "drawn by this program"
        runs = np.diff(half.labels.astype(int)) == 0
        assert 0.05 < runs.mean() < 0.15, "shuffled: one in ten is followed by its like"


# The digits are made with + - * / sqrt alone, one NumPy operation at a time, which IEEE 754 rounds
# in one way on every machine; and from Generator.random, a fixed function of PCG64's bits.
SHA256 = "2108215bb4df29c6c337728fb16471175bc261f8dd52e4527f6c2fe468826f2a"


def test_same_bytes_everywhere(halves: tuple[Dataset, Dataset]) -> None:
    digest = hashlib.sha256()
    for half in halves:
        digest.update(half.images.data)
        digest.update(half.labels.data)
    assert digest.hexdigest() == SHA256


def test_the_seed_decides() -> None:
    first, again, other = (drawn_digits(seed, 50, 30) for seed in (3, 3, 4))
    for half in (0, 1):
        np.testing.assert_array_equal(first[half].images, again[half].images)
        np.testing.assert_array_equal(first[half].labels, again[half].labels)
        assert (first[half].images != other[half].images).any()


def test_framed_like_mnist(halves: tuple[Dataset, Dataset]) -> None:
    images = halves[0].images
    inked = images > 76
    assert 19 <= inked.any(axis=2).sum(axis=1).mean() <= 21, "about 20 pixels high"
    assert 13 <= inked.any(axis=1).sum(axis=1).mean() <= 17
    rows = (images.mean(axis=(0, 2)) * np.arange(28)).sum() / images.mean(axis=(0, 2)).sum()
    columns = (images.mean(axis=(0, 1)) * np.arange(28)).sum() / images.mean(axis=(0, 1)).sum()
    assert abs(rows - 13.5) < 0.7
    assert abs(columns - 13.5) < 0.7
    edge = np.concatenate([images[:, [0, -1]].max((1, 2)), images[:, :, [0, -1]].max((1, 2))])
    assert (edge > 0).mean() < 0.01, "few reach the edge"
    assert images.max(axis=(1, 2)).min() > 100, "none is too faint to read"
    assert 0.10 < images.mean() / 255 < 0.18


def test_no_two_alike_and_each_digit_recognizable(halves: tuple[Dataset, Dataset]) -> None:
    train, test = halves
    assert len({image.tobytes() for image in train.images}) == len(train)
    x = train.images[:5000].reshape(-1, 784).astype(np.float32)
    probe = test.images[:300].reshape(-1, 784).astype(np.float32)
    distance = (x * x).sum(axis=1) - 2 * probe @ x.T
    nearest = train.labels[distance.argmin(axis=1)]
    assert (nearest == test.labels[:300]).mean() > 0.95  # the nearest neighbour is of the class
    # And the class alone tells little: within one, most of the variance is left to learn.
    spread = np.mean([x[train.labels[:5000] == digit].var(axis=0).sum() for digit in range(10)])
    assert spread > 0.4 * x.var(axis=0).sum()
