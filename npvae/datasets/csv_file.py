"""How does a table become pictures? One row for each: a label, perhaps, and 784 pixels.

Kaggle's files begin with a header: label,pixel0,pixel1,... Without one, 785 columns are taken for
a label and 784 pixels. Commas, semicolons, tabs or spaces separate the columns; .gz is unpacked.
"""

import gzip
import io
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npvae.datasets.dataset import MAX_ITEMS, SIDE, counted, mismatch, reading
from npvae.datasets.halves import part_of_array
from npvae.datasets.labels import MAX_WORD, Half
from npvae.datasets.pixels import Intake, to_images
from npvae.storage.files import brief, open_plain

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_LINE = 1 << 17  # letters of one row
_BLOCK = 512  # rows
_MAX_NUMBERS = MAX_ITEMS * SIDE * SIDE
_RATIO = 200  # gzip makes a table of pictures 5 to 20 times shorter
_INDEX = ("", "id", "index", "unnamed: 0")  # of a column that pandas and others write in front


def is_csv(path: Path) -> bool:
    """Whether its name is that of a table."""
    return path.name.lower().endswith(SUFFIXES)


def read_csv(path: Path, intake: Intake) -> list[Half]:
    """[all] of a table of numbers. Raises DataError."""
    with reading(path, "a table"), open_plain(path) as file:
        is_gzip = file.peek(2)[:2] == b"\x1f\x8b"
        raw = gzip.GzipFile(fileobj=file) if is_gzip else file
        text = io.TextIOWrapper(raw, "utf-8-sig", "replace")
        size = os.fstat(file.fileno()).st_size
        return _read_table(path, text, _RATIO * size + (1 << 24) if is_gzip else size, intake)


def _read_table(path: Path, file: io.TextIOBase, most: int, intake: Intake) -> list[Half]:
    first = file.readline(_LINE)
    delimiter = max(",;\t ", key=first.count)
    first = _trimmed(first, delimiter)
    cells = [_clean(cell) for cell in first.split(delimiter)]
    has_header = _numbers_or_words(cells[1:]).dtype.kind != "f"  # a label may be a word
    names = [cell.lower() for cell in cells] if has_header else len(cells) * ["unknown"]
    rest = chain(["" if has_header else first], iter(lambda: file.readline(_LINE), ""))
    lines = _lines(path, rest, most, delimiter, len(cells))
    block = list(islice(lines, _BLOCK))
    label, pixels = _columns(path, names, block, delimiter, intake)

    words: list[str] = []
    blocks = []
    while block:
        if label is not None:
            words += [_cell(line, delimiter, label) for line in block]
            if (longest := max(map(len, words[-len(block) :]))) > MAX_WORD:  # each takes that room
                raise mismatch(path, f"labels of at most {MAX_WORD} letters", f"one of {longest:,}")
        try:
            table = np.loadtxt(
                block, np.float32, None, delimiter, usecols=pixels, ndmin=2, quotechar='"'
            )
        except ValueError as error:
            why = brief(str(error).partition(";")[0], 100)
            raise mismatch(path, "numbers in every row", f"others: {why}") from None
        blocks.append(table)
        block = list(islice(lines, _BLOCK))
    if not blocks:
        raise mismatch(path, "a row for each picture", "none")
    images = np.concatenate(blocks)
    if (images == np.rint(images)).all() and np.abs(images).max() < 2**24:
        images = images.astype(np.int32)  # a table does not say whether 1 is a byte or a float

    half = to_images(str(path), images.shape, images.dtype, [images], intake)
    return [(half, str(path), None if label is None else _numbers_or_words(words))]


def _columns(
    path: Path, names: list[str], rows: list[str], delimiter: str, intake: Intake
) -> tuple[int | None, list[int]]:
    """Which column is the label, if any, and which are pixels. Raises DataError."""
    index = {k for k, name in enumerate(names) if name in _INDEX}
    labels = [k for k, name in enumerate(names) if part_of_array(name) == ("", "labels")]
    pixels = [k for k in range(len(names)) if k not in index and k not in labels[:1]]
    if not labels and isqrt(len(pixels)) ** 2 != len(pixels):
        # The first, unless it is the same in all rows, as the pixel in a corner is.
        differs = [len({_cell(row, delimiter, pixels[k]) for row in rows}) > 1 for k in (0, -1)]
        which = -1 if differs == [False, True] else 0
        labels = [pixels.pop(which)]
        intake.notes.append(f"its {'last' if which else 'first'} column is taken for the label")
    if len(pixels) < 2 or isqrt(len(pixels)) ** 2 != len(pixels):
        expected = f"a label and {SIDE * SIDE} pixels in each row"
        raise mismatch(path, expected, f"{len(names):,} columns")
    if index:
        intake.notes.append(f"left out: {counted(len(index), 'column')} that number the rows")
    return labels[0] if labels else None, pixels


def _lines(
    path: Path, lines: Iterable[str], most: int, delimiter: str, columns: int
) -> Iterator[str]:
    """The rows of numbers, each with the same number of columns. Raises DataError.

    All lines, blank ones too, may have `most` letters: a megabyte of gzip may hold a gigabyte.
    """
    row = letters = 0
    for count, line in enumerate(lines):
        letters += len(line)
        if letters > most or count > 2 * MAX_ITEMS:
            found = f"{count:,} lines of {letters:,} letters, and more"
            raise mismatch(path, "a row for each picture", found)
        line = _trimmed(line, delimiter)
        if not line.strip():
            continue
        row += 1
        if (found_here := line.count(delimiter) + 1) != columns:
            raise mismatch(path, f"{columns:,} columns", f"{found_here:,} in row {row:,}")
        if row > MAX_ITEMS or row * columns > _MAX_NUMBERS:
            expected = f"at most {MAX_ITEMS:,} rows and {_MAX_NUMBERS:,} numbers"
            raise mismatch(path, expected, "more")
        yield line


def _numbers_or_words(cells: list[str]) -> NDArray[Any]:
    try:
        return np.array(cells, np.float64)
    except ValueError:
        return np.array(cells)


def _trimmed(line: str, delimiter: str) -> str:
    """The line without its end, before which some programs put one more delimiter."""
    return line.rstrip("\r\n").rstrip(delimiter)


def _cell(line: str, delimiter: str, place: int) -> str:
    return _clean(line.split(delimiter, place + 1)[place])


def _clean(cell: str) -> str:
    return cell.strip(" \t\r\n\"'#")
