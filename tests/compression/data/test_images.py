"""Images as anybody may have made them: whole, turned, damaged, huge, and none."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compression.data.images import MAX_PIXELS, open_image, read_image
from compression.errors import ImageError


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def claimed(width: int, height: int) -> bytes:
    """A PNG of some hundred bytes that claims a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_formats_and_modes(form: str, mode: str) -> None:
    image = open_image(encoded(Image.new(mode, (20, 10), 100), form), "a")
    assert (image.mode, image.size) == ("RGB", (20, 10))


def test_transparency_and_palettes_become_colours() -> None:
    for mode in ("RGBA", "P", "LA"):
        assert open_image(encoded(Image.new(mode, (4, 4))), "a").mode == "RGB"


def test_an_image_is_turned_upright() -> None:
    exif = Image.Exif()
    # Orientation: turned by a quarter.
    exif[0x0112] = 6
    assert open_image(encoded(Image.new("RGB", (20, 10)), "JPEG", exif=exif), "a").size == (10, 20)


def test_16_bits_keep_their_high_byte() -> None:
    deep = Image.fromarray(np.array([[0, 256 * 7, 65535]], dtype=np.uint16))
    assert np.asarray(open_image(encoded(deep), "a"))[0, :, 0].tolist() == [0, 7, 255]


@pytest.mark.parametrize(
    "content", [b"", b"no image", b"GIF89a" + b"\0" * 50, b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xff\xd8\xff"]
)
def test_what_is_no_image_is_refused_in_a_sentence(content: bytes) -> None:
    with pytest.raises(ImageError, match=r"^'photo.jpg' is no image that can be read; give a whole JPEG, .* file\.$"):
        open_image(content, "photo.jpg")


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_half_a_file_is_refused(form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), form)
    with pytest.raises(ImageError, match="is no image that can be read"):
        open_image(content[: len(content) // 2], "half")


@pytest.mark.parametrize("side", [MAX_PIXELS // 1000, 60_000])
def test_a_bomb_is_refused_before_it_unpacks(side: int) -> None:
    content = claimed(side, 1001) if side < 60_000 else claimed(side, side)
    assert len(content) < 200
    with pytest.raises(ImageError):
        open_image(content, "bomb.png")


def test_the_refusal_of_a_large_image_names_both_sizes() -> None:
    with pytest.raises(ImageError, match=r"'large.png' has 50001 x 1000 pixels; give an image of at most 50 million"):
        open_image(claimed(50_001, 1000), "large.png")


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(file)
    file.write_bytes(encoded(Image.new("RGB", (3, 2), (1, 2, 3))))
    assert read_image(file).getpixel((0, 0)) == (1, 2, 3)
