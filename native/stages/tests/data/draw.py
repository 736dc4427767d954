"""Draws the images that the tests decode, and writes down what Pillow makes of them.

Run once, with Pillow 13.0.0 and NumPy:

    python native/stages/tests/data/draw.py

Every image has its expected pixels beside it: `NAME.rgb` or `NAME.gray`, rows of bytes without a header.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy
from PIL import Image, ImageOps

HERE = Path(__file__).parent
WIDTH, HEIGHT = 48, 32


def scene() -> numpy.ndarray:
    """Slopes, an edge and some grain: what codecs are good at, and what they are bad at."""
    down, right = numpy.mgrid[0:HEIGHT, 0:WIDTH]
    grain = numpy.random.default_rng(5).integers(-12, 13, (HEIGHT, WIDTH, 3))
    slopes = numpy.stack([right * 5, down * 7, 255 - right * 3 - down * 2], axis=2)
    slopes[8:20, 12:30] = [220, 40, 60]
    return numpy.clip(slopes + grain, 0, 255).astype(numpy.uint8)


def transparent(colours: Image.Image) -> Image.Image:
    """The same, the less to be seen of it the farther left."""
    right = numpy.tile(numpy.linspace(0, 255, WIDTH).astype(numpy.uint8), (HEIGHT, 1))
    colours.putalpha(Image.fromarray(right))
    return colours


def keep(name: str, image: Image.Image, mode: str = "RGB", **options: object) -> None:
    """Writes the file, and beside it the pixels that it shows in this mode."""
    file = io.BytesIO()
    image.save(file, name.rsplit(".", 1)[1].replace("jpg", "jpeg"), **options)
    (HERE / name).write_bytes(file.getvalue())
    shown = ImageOps.exif_transpose(Image.open(file)).convert(mode)
    (HERE / f"{name}.{mode.lower().replace('l', 'gray')}").write_bytes(shown.tobytes())


def sixteen_bits() -> None:
    """Pillow writes no colours of 16 bits, so the chunks are put together by hand."""
    levels = (scene().astype(int) * 256 + 3).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in levels)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    ]
    file = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        file += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    (HERE / "sixteen.png").write_bytes(file)
    (HERE / "sixteen.png.rgb").write_bytes(scene().tobytes())


def main() -> None:
    """Writes all of them."""
    colours = Image.fromarray(scene())
    grey = colours.convert("L")
    keep("baseline.jpg", colours, quality=90, subsampling=0)
    keep("subsampled.jpg", colours, quality=90, subsampling=2)
    keep("progressive.jpg", colours, quality=90, subsampling=0, progressive=True)
    keep("grey.jpg", grey, "L", quality=90)
    keep("cmyk.jpg", colours.convert("CMYK"), quality=90)
    for number in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = number
        keep(f"turned{number}.png", colours.crop((0, 0, 20, 12)), exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 6
    keep("turned.jpg", colours, quality=90, subsampling=0, exif=exif)
    keep("colours.png", colours)
    keep("grey.png", grey, "L")
    keep("palette.png", colours.quantize(16))
    keep("bits.png", grey.convert("1"), "L")
    keep("transparent.png", transparent(colours.copy()))
    sixteen_bits()
    keep("lossless.webp", colours, lossless=True, quality=50)
    keep("lossy.webp", colours, quality=85)
    keep("transparent.webp", transparent(colours.copy()), lossless=True, exact=True)
    keep("animated.webp", colours, save_all=True, append_images=[colours.transpose(0)], lossless=True)
    for name, filter_ in {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}.items():
        for width, height in [(20, 13), (60, 44)]:
            resized = colours.resize((width, height), filter_)
            (HERE / f"{name}-{width}x{height}.rgb").write_bytes(resized.tobytes())


if __name__ == "__main__":
    main()
