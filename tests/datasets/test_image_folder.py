"""Folders of pictures: which files count, which class and half they are in, and how they look."""

import io
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from npvae.datasets import picture_reader
from tests.datasets.own import IMAGES, Bytes, Loaded, halves, pasted, refusal, save_pictures

INK = np.zeros((20, 28, 28), np.uint8)  # a bright bar on black, a little different in each
for k, picture in enumerate(INK):
    picture[8 + k % 5 : 20, 10 : 14 + k // 5] = 250

# ------------------------------------------------------------------ which files


def test_flat_folder(tmp_path: Path) -> None:
    save_pictures(tmp_path, IMAGES)
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "raw.tga").touch()
    own = Loaded(tmp_path)
    np.testing.assert_array_equal(own.images, IMAGES)
    assert own.train.class_names == ("picture",)
    assert own.notes == ["left out: 2 files (.txt, .tga)"]


def test_litter_is_ignored(tmp_path: Path) -> None:
    save_pictures(tmp_path / "0", IMAGES)
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._0.png", "0/Thumbs.db", "0/._000.png"):
        (tmp_path / name).write_bytes(b"\0\5\26\7")
    for name in ("__MACOSX/0", "@eaDir", "0/@eaDir", ".ipynb_checkpoints", "$RECYCLE.BIN"):
        save_pictures(tmp_path / name, IMAGES[:2])
    own = Loaded(tmp_path)
    np.testing.assert_array_equal(own.images, IMAGES)
    assert (own.train.class_names, own.notes) == (("0",), [])


def test_links_are_followed_but_not_in_a_circle(tmp_path: Path) -> None:
    save_pictures(tmp_path / "elsewhere", IMAGES)
    folder = tmp_path / "own"
    (folder / "b").mkdir(parents=True)
    (folder / "a").symlink_to(tmp_path / "elsewhere")
    (folder / "b" / "1.png").symlink_to(tmp_path / "elsewhere" / "000.png")
    (folder / "b" / "again").symlink_to(folder / "b")
    (folder / "b" / "gone.png").symlink_to(tmp_path / "nothing")
    own = Loaded(folder)
    assert own.train.class_names == ("a", "b")
    assert len(own.images) == 26
    assert own.notes[0] == "left out: 1 file (links that lead nowhere)"


def test_folders_that_link_to_one_another_are_read_once(tmp_path: Path) -> None:
    for k in range(9):
        save_pictures(tmp_path / f"c{k}", IMAGES[2 * k : 2 * k + 2])
        for other in range(9):
            (tmp_path / f"c{k}" / f"to{other}").symlink_to(tmp_path / f"c{other}")
    (tmp_path / "c9").symlink_to("c0")
    own = Loaded(tmp_path)
    assert len(own.images) == 18
    assert own.train.class_names == tuple(f"c{k}" for k in range(9))
    assert own.notes[0] == "left out: 1 folder without pictures (c9)"


HALVES = [
    *("train test", "training testing", "TRAIN Test", "Train_set Test-set", "trainingSet testSet"),
    *("train val", "Training Validation", "trn t10k", "seg_train seg_test"),
    "images_background images_evaluation",
]
IS_TEST = "its validation set is taken as the test set, for there is no other"
NO_LABELS = "the test set has no labels: its class is called picture"
# Pictures in each folder, how many of all are for the test set, the classes, and what is said.
Layout = tuple[dict[str, int], int, str, list[str]]
LAYOUTS: dict[str, Layout] = {
    "classes": (
        {"10": 5, "9": 2, "empty": 0, "hät 1": 3, "shoe": 4},
        1,
        "9,10,hät 1,shoe",
        ["left out: 1 folder without pictures (empty)"],
    ),
    "deeper folders": (
        {"Greek/1": 3, "Greek/2": 3, "Latin/1/old": 3},
        1,
        "Greek,Latin",
        ["pictures of 3 deeper folders belong to the class above them"],
    ),
    "train alone": ({"train/a": 25}, 2, "a", []),
    "a class called train": ({"car": 5, "ship": 5, "train": 5}, 1, "car,ship,train", []),
    "words of halves": (
        {"bullet train": 5, "test tube": 5, "valley": 5},
        1,
        "bullet train,test tube,valley",
        [],
    ),
    "one word of a half": ({"bullet train": 5}, 1, "bullet train", []),
    "a test set without classes": ({"train/a": 10, "test": 5}, 5, "a,picture", [NO_LABELS]),
    "wrapped twice": (
        {
            "t/training set/training set/cats": 5,
            "t/training set/training set/dogs": 5,
            "t/test set/test set/cats": 5,
            "t/test set/test set/dogs": 5,
        },
        10,
        "cats,dogs",
        [],
    ),
    "others beside the halves": (
        {"train": 5, "test": 5, "val": 5, "old": 5},
        5,
        "picture",
        ["its validation set is not used; --validation N holds images out", "left out: old"],
    ),
    **{
        name: (dict.fromkeys(name.split(), 5), 5, "picture", [IS_TEST] * (" val" in name.lower()))
        for name in HALVES
    },
    **{
        f"classes in {name}": (
            {f"{half}/{of}": 5 for half in name.split(",") for of in "ab"},
            10,
            "a,b",
            [],
        )
        for name in ("train images,test images", "Train Split,Test Split")
    },
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_folders_that_mean_classes_and_halves(tmp_path: Path, layout: Layout) -> None:
    counts, held_out, classes, notes = layout
    rest = IMAGES
    for name, count in counts.items():
        save_pictures(tmp_path / name, rest[:count])
        rest = rest[count:]
    own = Loaded(tmp_path)
    assert own.train.class_names == own.test.class_names == tuple(classes.split(","))
    assert (len(own.test), own.notes) == (held_out, notes)
    if "test set" not in "".join(own.lines):  # the training set was written first
        count = len(own.train)
        np.testing.assert_array_equal(own.train.images, IMAGES[:count])
        np.testing.assert_array_equal(own.test.images, IMAGES[count : count + held_out])
    else:
        np.testing.assert_array_equal(own.images, IMAGES[: sum(counts.values())])
    pictures = {name.split("/")[-1]: count for name, count in counts.items() if count}
    if "/" not in "".join(counts) and classes != "picture":
        labels = [*own.train.labels, *own.test.labels]
        assert np.bincount(labels).tolist() == [pictures[name] for name in classes.split(",")]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "1 to 250,000 pictures, found 0"),
        (["test"], "expected train and test, found only test"),
        (["train", "train/a", "test"], "found both"),
        (["train", "training", "test"], "found train and training"),
        (["notes", "shoe/train", "shoe/test"], "found them in shoe"),
        (["a_train", "a_test", "b_train", "b_test"], "the halves of one dataset, found a_"),
        ([str(k) for k in range(257)], "at most 256 classes, found 257"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, names: list[str], words: str) -> None:
    for name in names:
        save_pictures(tmp_path / name, IMAGES[:1])
    assert words in refusal(tmp_path)


def test_a_folder_of_other_files_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("a/1.tga", "a/2.tga", "b.heic", "c"):
        (tmp_path / name).touch()
    message = refusal(tmp_path)
    assert "found 0, and 4 files (.tga, .heic, no suffix), 1 folder without pictures (a)" in message
    assert "rglob('*.tga')" in message
    shutil.rmtree(tmp_path / "a")
    for path in tmp_path.iterdir():
        path.rename(tmp_path / "readme.txt")
    assert "A picture ends in .png, " in refusal(tmp_path)


@pytest.mark.parametrize("suffix", [".tga", ""])
def test_other_kinds_are_refused_with_the_line_that_converts_them(
    tmp_path: Path, suffix: str
) -> None:
    save_pictures(tmp_path / "a", IMAGES, suffix, format="TGA")
    pasted(refusal(tmp_path))
    own = Loaded(tmp_path)
    np.testing.assert_array_equal(own.images, IMAGES)
    assert own.notes == [f"left out: 25 files ({suffix or 'no suffix'})"]


def test_float_pictures_of_another_range_are_refused_with_the_line_that_converts_them(
    tmp_path: Path,
) -> None:
    save_pictures(tmp_path / "a", IMAGES.astype(np.float32), ".tif")
    message = refusal(tmp_path)
    assert "000.tif: expected floats from 0 to 1, found 0 to 255." in message
    pasted(message)
    np.testing.assert_array_equal(Loaded(tmp_path).images, IMAGES)


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)  # root may read everything
    assert refusal(tmp_path) == f"{tmp_path}: cannot be read: Permission denied"


# ------------------------------------------------------------------ how they look


@pytest.mark.parametrize(
    "suffix",
    [
        *(".PNG", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".webp"),
        *(".tif", ".TIFF", ".pgm", ".ppm", ".pnm"),
    ],
)
def test_kinds_of_pictures(tmp_path: Path, suffix: str) -> None:
    smooth = np.add.outer(np.arange(28), np.arange(28)).astype(np.uint8) * 4
    formats = {".jfif": "JPEG", ".pnm": "PPM"}
    more = {"format": formats[suffix]} if suffix in formats else {}
    save_pictures(tmp_path, np.stack([smooth, smooth.T[::-1]]), suffix, **more)
    train, _ = halves(tmp_path)
    assert np.abs(train.images[0].astype(int) - smooth).max() <= (16 if "w" in suffix else 4)


def test_classes_of_different_kinds(tmp_path: Path) -> None:
    save_pictures(tmp_path / "a", IMAGES[:10])
    save_pictures(tmp_path / "b", IMAGES[10:], ".tif")
    own = Loaded(tmp_path)
    assert (own.train.class_names, own.notes) == (("a", "b"), [])
    np.testing.assert_array_equal(own.images, IMAGES)


def with_palette(image: Bytes) -> Image.Image:
    """The same grey levels in the order of another palette."""
    picture = Image.frombytes("P", (28, 28), (255 - image).tobytes())
    picture.putpalette([level for grey in range(256) for level in 3 * [255 - grey]])
    return picture


def with_16_bits(image: Bytes) -> Image.Image:
    return Image.fromarray(image.astype(np.uint16) * 257)


@pytest.mark.parametrize(
    ("change", "suffix"),
    [
        (lambda image: Image.fromarray(image).convert("RGB"), ".png"),
        (lambda image: Image.fromarray(image).convert("RGBA"), ".png"),
        (lambda image: Image.fromarray(image).convert("LA"), ".png"),
        (lambda image: Image.fromarray(image).convert("RGB").convert("CMYK"), ".tif"),
        (lambda image: Image.fromarray((image / 255).astype(np.float32)), ".tif"),
        (lambda image: Image.fromarray(image.astype(np.int32) * 257), ".tif"),
        (with_palette, ".png"),
        (with_16_bits, ".png"),
        (with_16_bits, ".tif"),
        (lambda image: with_16_bits(image).convert("I"), ".pgm"),
    ],
)
def test_modes_that_mean_the_same(
    tmp_path: Path, change: Callable[[Bytes], Image.Image], suffix: str
) -> None:
    for k, image in enumerate(IMAGES):
        change(image).save(tmp_path / f"{k:02}{suffix}")
    own = Loaded(tmp_path)
    np.testing.assert_array_equal(own.images, IMAGES)
    assert own.notes == []


def test_black_and_white_of_one_bit(tmp_path: Path) -> None:
    for k, image in enumerate(IMAGES > 127):
        Image.fromarray(image).save(tmp_path / f"{k:02}.png")
    np.testing.assert_array_equal(Loaded(tmp_path).images, np.where(IMAGES > 127, 255, 0))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pixels_of_0_and_1_are_refused(tmp_path: Path, dtype: type[np.generic]) -> None:
    """With 16 bits they are bytes that were saved with the wrong type: all of them black, too."""
    images = (IMAGES > 127) if dtype == np.uint8 else IMAGES
    save_pictures(tmp_path / "a", images.astype(dtype))
    message = refusal(tmp_path)
    assert "expected pixels from 0 to 255, found only 0 and 1." in message
    pasted(message)
    expected = 255 * images if dtype == np.uint8 else images * (255 / 257)
    np.testing.assert_allclose(Loaded(tmp_path).images, expected, atol=1)


def ink(level: int, opacity: Bytes) -> Image.Image:
    return Image.merge("LA", (Image.new("L", (28, 28), level), Image.fromarray(opacity)))


@pytest.mark.parametrize(
    ("level", "expected", "note"),
    [
        (255, INK, "transparent pictures: put on black"),
        (200, INK * (200 / 255), "transparent pictures: put on black"),
        (0, 255 - INK, "transparent pictures: dark ink, put on white"),
        (
            60,
            255 - INK * (195 / 255),
            "transparent pictures: dark ink, put on white",
        ),
    ],
)
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_what_is_transparent_does_not_hide_the_ink(
    tmp_path: Path, level: int, expected: Bytes, note: str, mode: str
) -> None:
    for k, opacity in enumerate(INK):
        ink(level, opacity).convert(mode).save(tmp_path / f"{k:02}.png")
    own = Loaded(tmp_path)
    np.testing.assert_allclose(own.images, expected, atol=1)
    assert own.notes[0] == note
    np.testing.assert_allclose(Loaded(tmp_path, invert=True).images, 255 - expected, atol=1)


def test_colour_becomes_grey(tmp_path: Path) -> None:
    red = Image.new("RGB", (28, 28), (255, 0, 0))
    red.save(tmp_path / "a.png")
    red.quantize().save(tmp_path / "b.png")
    Image.new("L", (28, 28), 7).save(tmp_path / "c.png")
    own = Loaded(tmp_path)
    assert [int(image[5, 5]) for image in own.images] == [76, 76, 7]


@pytest.mark.parametrize("turns", {1: 0, 3: 2, 6: 1, 8: 3}.items())
def test_pictures_are_turned_as_a_viewer_shows_them(tmp_path: Path, turns: tuple[int, int]) -> None:
    orientation, quarters = turns
    exif = Image.Exif()
    exif[0x0112] = orientation
    save_pictures(tmp_path, np.rot90(INK, quarters, axes=(1, 2)), exif=exif)
    np.testing.assert_array_equal(Loaded(tmp_path).images, INK)


def test_of_several_frames_the_first_is_taken(tmp_path: Path) -> None:
    frames = [Image.fromarray(image) for image in INK[:3]]
    for name in ("a.gif", "b.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    own = Loaded(tmp_path)
    assert "2 pictures with several frames: the first is taken" in own.notes
    assert (own.images[1] == INK[0]).all()


def test_other_sizes_are_scaled_where_it_is_asked_for(tmp_path: Path) -> None:
    save_pictures(tmp_path, IMAGES[:3])
    wide = np.full((40, 80), 30, np.uint8)
    wide[10:30, 20:60] = 220
    Image.fromarray(wide).save(tmp_path / "001.png")
    Image.fromarray(wide).save(tmp_path / "002.jpg", quality=95)
    message = refusal(tmp_path)
    assert "pictures of 28 x 28, found 2 others: 001.png (80 x 40), 002.jpg (80 x 40).\n" in message
    assert message.endswith("--resize scales them.")
    own = Loaded(tmp_path, resize=True)
    np.testing.assert_array_equal(own.images[0], IMAGES[0])
    np.testing.assert_array_equal(own.images[3], IMAGES[2])
    for scaled in own.images[1:3].astype(int):
        assert np.abs(scaled[:10] - 30).max() <= 3  # 80 x 40 becomes 28 x 14, on its own edge
        assert np.abs(scaled[12:16, 10:18] - 220).max() <= 3
        assert np.abs(scaled[19:] - 30).max() <= 3
    assert own.train.source.endswith(", 2 scaled to 28 x 28 (from 80 x 40)")


def test_large_photographs_are_scaled(tmp_path: Path) -> None:
    """A JPEG is decoded at a fraction of its size, and one on its side stands upright."""
    tall = np.zeros((800, 600), np.uint8)
    tall[:400] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    for k in range(2):
        Image.fromarray(np.rot90(tall)).save(tmp_path / f"{k}.jpg", exif=exif)
    image = Loaded(tmp_path, resize=True).train.images[0]
    assert image[2:12, 5:23].min() > 190
    assert image[16:26, 5:23].max() < 10


# ------------------------------------------------------------------ broken ones


def png_header(width: int, height: int) -> bytes:
    import zlib

    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def encoded(image: Bytes, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def test_all_broken_pictures_are_named_at_once(tmp_path: Path) -> None:
    save_pictures(tmp_path / "a", IMAGES)
    whole = encoded(IMAGES[1], "PNG")
    broken = {
        "001": whole[: len(whole) // 2],
        "002": b"",
        "003": b"hello",
        "004": whole[:60] + bytes([whole[60] ^ 4]) + whole[61:],
        "005": png_header(28, 28),
        "006": encoded(IMAGES[0], "TGA"),
    }
    for name, content in broken.items():
        (tmp_path / "a" / f"{name}.png").write_bytes(content)
    message = refusal(tmp_path)
    assert "sound pictures, found 6 broken: " in message
    assert message.endswith("\n--skip-broken leaves them out.")
    own = Loaded(tmp_path, skip_broken=True)
    assert own.notes[0].startswith("left out: 6 broken: ")
    for said in (message, own.notes[0]):
        assert all(f"a/{name}.png (" in said for name in broken)
    np.testing.assert_array_equal(own.images, np.delete(IMAGES, range(1, 7), axis=0))
    assert own.train.labels.tolist() == [0] * len(own.train)


@pytest.mark.parametrize("size", [60_000, 10_000])
def test_pictures_of_gigapixels(tmp_path: Path, size: int) -> None:
    save_pictures(tmp_path, IMAGES[:3])
    (tmp_path / "001.png").write_bytes(png_header(size, size))
    for resize in (False, True):
        assert "found 1 broken: 001.png (" in refusal(tmp_path, resize=resize)


def test_nothing_is_left_when_all_are_broken(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert "found none" in refusal(tmp_path, skip_broken=True)


def test_files_too_long_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_pictures(tmp_path, IMAGES[:3])
    assert len(halves(tmp_path)[0]) == 2
    monkeypatch.setattr(picture_reader, "_MAX_BYTES", 700)
    assert "3 broken: 000.png (longer than 700 bytes), " in refusal(tmp_path)


def test_names_for_the_terminal_are_not_obeyed(tmp_path: Path) -> None:
    (tmp_path / "\033[2J.png").touch()
    (tmp_path / f"{'x' * 200}.png").touch()
    message = refusal(tmp_path)
    assert message.replace("\n", "").isprintable()
    assert len(message) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("file", ["a\nb/cat/x.txt", "a\nb.csv"])
def test_names_with_ends_of_lines_are_shown_in_one_line(tmp_path: Path, file: str) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    assert f"{tmp_path / 'a'}\\nb" in refusal(tmp_path).splitlines()[0]
