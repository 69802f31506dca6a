"""Folders of pictures: which files count, which class and half they are in, and how they look."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.datasets.own import IMAGES, Loaded, grouped, outcome, refusal, save_pictures, touch
from tests.helpers import Bytes, Said

pytestmark = pytest.mark.usefixtures("here")

# Folders with their counts of pictures, those of the training set first; files of other kinds.
FOLDERS: dict[str, dict[str, int]] = {
    "flat": {"": 25, "notes.txt": -1, "raw.tga": -1},
    "classes": {"10": 5, "9": 2, "empty": 0, "hät 1": 3, "shoe": 4},
    "deeper folders": {"Greek/1": 3, "Greek/2": 3, "Latin/1/old": 3},
    "train alone": {"train/a": 25},
    "a class called train": {"car": 5, "ship": 5, "train": 5},
    "words of halves": {"bullet train": 5, "test tube": 5, "valley": 5},
    "one word of a half": {"bullet train": 5},
    "a test set without classes": {"train/a": 10, "test": 5},
    "wrapped twice": {
        f"t/{half} set/{half} set/{of}": 5 for half in ("training", "test") for of in ("cat", "dog")
    },
    "others beside the halves": {"train": 5, "test": 5, "val": 5, "old": 5},
    **{
        f"classes in {halves}": {f"{half}/{of}": 5 for half in halves.split(",") for of in "ab"}
        for halves in ("train images,test images", "Train Split,Test Split")
    },
    **{
        f"halves {names}": dict.fromkeys(names.split(), 5)
        for names in (
            *("train test", "training testing", "TRAIN Test", "Train_set Test-set"),
            *("trainingSet testSet", "train val", "Training Validation", "trn t10k"),
            *("seg_train seg_test", "images_background images_evaluation"),
        )
    },
    # These are refused.
    "nothing": {"": 0},
    "test alone": {"test": 1},
    "pictures beside folders": {"train": 1, "train/a": 1, "test": 1},
    "two training sets": {"train": 1, "training": 1, "test": 1},
    "halves within a class": {"notes": 1, "shoe/train": 1, "shoe/test": 1},
    "two datasets": {"a_train": 1, "a_test": 1, "b_train": 1, "b_test": 1},
    "no pictures": {"a/1.json": -1, "a/2.json": -1, "b.md": -1},
    "names for the terminal": {"\033[2J.png": -1, f"{'x' * 200}.png": -1},
    "ends of lines in a folder": {"a\nb/cat/x.txt": -1},
    "ends of lines in a file": {"a\nb.csv": -1},
}


def test_folders_are_classes_and_halves_or_refused(said: Said) -> None:
    texts = {}
    for case, counts in FOLDERS.items():
        pictures = cycle(IMAGES)
        for name, count in counts.items():
            path = f"{case}/{name}"
            touch(path) if count < 0 else save_pictures(path, islice(pictures, count))
        texts[case] = outcome(case)
        assert texts[case].replace("\n", "").isprintable()
    said("folders of pictures", grouped(texts))


def test_litter_is_left_out_and_links_are_followed_once(here: Path, said: Said) -> None:
    pictures = save_pictures("litter/0", IMAGES)
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini", "._0.png", "0/Thumbs.db", "0/._000.png"):
        touch(f"litter/{name}", b"\0\5\26\7")
    for name in ("__MACOSX/0", "@eaDir", "0/@eaDir", ".ipynb_checkpoints", "$RECYCLE.BIN"):
        save_pictures(f"litter/{name}", IMAGES[:2])
    links = here / "links"
    (links / "b").mkdir(parents=True)
    (links / "a").symlink_to(here / pictures)
    (links / "b" / "1.png").symlink_to(here / pictures / "000.png")
    (links / "b" / "again").symlink_to(links / "b")
    (links / "b" / "gone.png").symlink_to(here / "nothing")
    (save_pictures("links/b/deep", IMAGES[:1]) / "self").symlink_to(".")
    for k in range(9):  # each of these folders leads to all others
        folder = save_pictures(f"circle/c{k}", IMAGES[2 * k : 2 * k + 2])
        for other in range(9):
            (folder / f"to{other}").symlink_to(f"../c{other}")
    Path("circle/c9").symlink_to("c0")
    folders = ("litter", "links", "circle")
    said("litter and links", {folder: outcome(folder) for folder in folders})


def test_a_folder_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    folder = save_pictures("own", IMAGES)
    monkeypatch.setattr(Path, "iterdir", denied)  # root may read everything
    assert refusal(folder) == "own: cannot be read: Permission denied"


INK = np.zeros((20, 28, 28), np.uint8)  # a bright bar on black, a little different in each
for k, picture in enumerate(INK):
    picture[8 + k % 5 : 20, 10 : 14 + k // 5] = 250


def test_kinds_of_pictures_in_classes_of_one_dataset() -> None:
    smooth = np.add.outer(np.arange(28), np.arange(28)).astype(np.uint8) * 4
    suffixes = [".PNG", ".TIFF", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg"]
    suffixes += [".pgm", ".pnm", ".ppm", ".tif", ".webp"]
    for k, suffix in enumerate(suffixes):
        save_pictures(f"own/{suffix[1:]}", smooth[None] + np.uint8(k), suffix)
    own = Loaded("own")
    assert own.train.class_names == tuple(suffix[1:] for suffix in suffixes)
    for k, (suffix, image) in enumerate(zip(suffixes, own.images, strict=True)):
        lossy = 16 if suffix == ".webp" else 4 if suffix.startswith(".j") else 0
        np.testing.assert_allclose(image, smooth + np.uint8(k), atol=lossy, err_msg=suffix)


def with_palette(image: Bytes) -> Image.Image:
    """The same grey levels in the order of another palette."""
    picture = Image.frombytes("P", (28, 28), (255 - image).tobytes())
    picture.putpalette([level for grey in range(256) for level in 3 * [255 - grey]])
    return picture


def with_16_bits(image: Bytes) -> Image.Image:
    return Image.fromarray(image.astype(np.uint16) * 257)


MODES: dict[str, Callable[[Bytes], Image.Image]] = {
    "RGB.png": lambda image: Image.fromarray(image).convert("RGB"),
    "RGBA.png": lambda image: Image.fromarray(image).convert("RGBA"),
    "LA.png": lambda image: Image.fromarray(image).convert("LA"),
    "CMYK.tif": lambda image: Image.fromarray(image).convert("RGB").convert("CMYK"),
    "floats.tif": lambda image: Image.fromarray((image / 255).astype(np.float32)),
    "32 bits.tif": lambda image: Image.fromarray(image.astype(np.int32) * 257),
    "palette.png": with_palette,
    "16 bits.png": with_16_bits,
    "16 bits.tif": with_16_bits,
    "16 bits.pgm": lambda image: with_16_bits(image).convert("I"),
    "1 bit.png": lambda image: Image.fromarray(image > 127),
    # These are refused with the line that converts them.
    "floats to 255.tif": lambda image: Image.fromarray(image.astype(np.float32)),
    "0 and 1.png": lambda image: Image.fromarray((image > 127).astype(np.uint8)),
    # Bytes that were saved with the wrong type: all of them black, too.
    "16 bits to 255.png": lambda image: Image.fromarray(image.astype(np.uint16)),
    "another kind.tga": Image.fromarray,
    "no suffix": Image.fromarray,
}


def test_modes_are_read_or_refused_with_the_way_on(said: Said) -> None:
    texts = {}
    for mode, change in MODES.items():
        named = {} if "." in mode else {"format": "TGA"}
        texts[mode] = outcome(save_pictures(mode, map(change, IMAGES), mode, **named))
    for name in "abc":
        touch(f"texts/{name}.txt")
    texts["less than texts"] = outcome(save_pictures("texts", IMAGES[:2], ".tga"))
    said("modes of pictures", grouped(texts))


@pytest.mark.parametrize(
    ("mode", "level", "expected", "note"),
    [
        ("LA", 255, INK, "put on black"),
        ("RGBA", 200, INK * (200 / 255), "put on black"),
        ("RGBA", 0, 255 - INK, "dark ink, put on white"),
        ("LA", 60, 255 - INK * (195 / 255), "dark ink, put on white"),
    ],
)
def test_transparent_pictures_show_their_ink(
    mode: str, level: int, expected: Bytes, note: str
) -> None:
    """Nor what is scaled, here to 28 x 28 from a part that holds all of the ink."""
    for name, part in (("whole", INK), ("narrow", INK[:, :, 7:21])):
        ink = Image.new("L", (part.shape[2], part.shape[1]), level)
        pictures = [Image.merge("LA", (ink, Image.fromarray(opacity))) for opacity in part]
        folder = save_pictures(name, [picture.convert(mode) for picture in pictures])
        own = Loaded(folder, resize=True)
        np.testing.assert_allclose(own.images, expected, atol=1)
        assert own.notes[0] == f"transparent pictures: {note}"
        inverted = Loaded(folder, resize=True, invert=True)
        np.testing.assert_allclose(inverted.images, 255 - expected, atol=1)


def test_colour_becomes_grey(here: Path) -> None:
    red = Image.new("RGB", (28, 28), (255, 0, 0))
    red.save("a.png")
    red.quantize().save("b.png")
    Image.new("L", (28, 28), 7).save("c.png")
    assert Loaded(here).images[:, 5, 5].tolist() == [76, 76, 7]


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_pictures_are_turned_as_a_viewer_shows_them(here: Path) -> None:
    for orientation, quarters in {1: 0, 3: 2, 6: 1, 8: 3}.items():
        picture = Image.fromarray(np.rot90(INK[orientation], quarters))
        picture.save(f"{orientation}.png", exif=turned(orientation))
    np.testing.assert_array_equal(Loaded(here).images, INK[[1, 3, 6, 8]])


def test_of_several_frames_the_first_is_taken(here: Path) -> None:
    frames = [Image.fromarray(image) for image in INK[:3]]
    for name in ("a.gif", "b.tif"):
        frames[0].save(name, save_all=True, append_images=frames[1:])
    own = Loaded(here)
    assert "2 pictures with several frames: the first is taken" in own.notes
    assert (own.images[1] == INK[0]).all()


def test_other_sizes_are_scaled_where_it_is_asked_for(said: Said) -> None:
    save_pictures("own", IMAGES[:3])
    wide = np.full((40, 80), 30, np.uint8)
    wide[10:30, 20:60] = 220
    Image.fromarray(wide).save("own/001.png")
    Image.fromarray(wide).save("own/002.jpg", quality=95)
    own = Loaded("own", resize=True)
    np.testing.assert_array_equal(own.images[[0, 3]], IMAGES[[0, 2]])
    for scaled in own.images[1:3].astype(int):
        assert np.abs(scaled[:10] - 30).max() <= 3  # 80 x 40 becomes 28 x 14, on its own edge
        assert np.abs(scaled[12:16, 10:18] - 220).max() <= 3
        assert np.abs(scaled[19:] - 30).max() <= 3
    said("pictures of other sizes", {"refused": refusal("own"), "scaled": own.train.source})


def test_large_photographs_are_scaled(here: Path) -> None:
    """A JPEG is decoded at a fraction of its size, and one on its side stands upright."""
    tall = np.zeros((800, 600), np.uint8)
    tall[:400] = 200
    for name in ("0.jpg", "1.jpg"):
        Image.fromarray(np.rot90(tall)).save(name, exif=turned(6))
    image = Loaded(here, resize=True).train.images[0]
    assert image[2:12, 5:23].min() > 190
    assert image[16:26, 5:23].max() < 10


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def encoded(image: Bytes, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def test_all_broken_pictures_are_named_at_once() -> None:
    save_pictures("own/a", IMAGES)
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
        touch(f"own/a/{name}.png", content)
    message = refusal("own")
    assert "sound pictures, found 6 broken: " in message
    assert message.endswith("\n--skip-broken leaves them out.")
    own = Loaded("own", skip_broken=True)
    assert own.notes[0].startswith("left out: 6 broken: ")
    for text in (message, own.notes[0]):
        assert all(f"a/{name}.png (" in text for name in broken)
    np.testing.assert_array_equal(own.images, np.delete(IMAGES, range(1, 7), axis=0))
    assert own.train.class_names == ("a",)
    for name in ("a", "b"):
        touch(f"empty/{name}.png")
    assert "found none" in refusal("empty", skip_broken=True)


def test_gigapixels_are_not_scaled(here: Path) -> None:
    save_pictures(here, IMAGES[:3])
    for side in (60_000, 10_000):
        touch("001.png", png_header(side, side) + b"\0\0\0\1IDAT")
        message = refusal(here, resize=True)
        assert "found 1 broken: 001.png (" in message
        assert "exceeds limit" in message


def test_files_too_long_for_a_picture(here: Path) -> None:
    save_pictures(here, IMAGES[:3])
    for length in (10_000_000, 10_000_001):
        os.truncate("000.png", length)  # zeros after its end, which is no harm to a PNG
        assert len(Loaded(here, resize=length > 10_000_000).images) == 3
    assert "1 broken: 000.png (longer than 10,000,000 bytes)" in refusal(here)
    os.truncate("000.png", 100_000_001)
    assert "1 broken: 000.png (longer than 100,000,000 bytes)" in refusal(here, resize=True)
