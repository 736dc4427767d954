"""Native stages, which see one row before its batch forms: their ports and options, as `native/stages` has them.

The native side looks at options again when it builds a stage; what is said here is said earlier, and with the step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from servekit.kernels.ports import Port
from servekit.pipelines.faults import PipelineError, meant

SIDE_MAX: Final = 16_384
SHOWN_CHARACTERS_MAX: Final = 64
LENGTH_MAX: Final = 2**20
CATEGORIES_MAX: Final = 2**20
CATEGORIES_BYTES_MAX: Final = 2**24

Given = Mapping[str, Any]


class Option(NamedTuple):
    """One option: what it may be, in words and as a test."""

    allowed: str
    fits: Callable[[Any], bool]
    required: bool = False


class Ports(NamedTuple):
    """What a stage takes and gives, in order, for one row."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


@dataclass(frozen=True)
class StageKind:
    """A kind of native stage; which ports it has may depend on its options."""

    name: str
    options: Mapping[str, Option]
    ports: Callable[[Given], Ports]

    def checked(self, given: Given) -> Ports:
        """The ports under these options, or an error that names what is wrong."""
        for name, value in given.items():
            option = self.options.get(name)
            if option is None:
                raise PipelineError(f"option '{name}' is unknown; {meant(name, self.options)}")
            if not option.fits(value):
                raise PipelineError(f"option '{name}' is {_shown(value)}, {option.allowed} is allowed; correct it")
        for name, option in self.options.items():
            if option.required and name not in given:
                raise PipelineError(f"option '{name}' is missing, {option.allowed} is allowed; add it under with")
        return self.ports(given)


def _shown(value: object) -> str:
    """A list of categories may be long."""
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"


def _is_number(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _choice(*words: str) -> Option:
    return Option(f"one of {', '.join(map(repr, words))}", lambda value: value in words)


def _number(low: int, high: int, *, required: bool = False) -> Option:
    return Option(f"a whole number from {low} to {high}", lambda value: _is_number(value, low, high), required)


def _is_colour(value: object) -> bool:
    levels = value if isinstance(value, list) and len(value) == 3 else [value]
    return all(_is_number(level, 0, 255) for level in levels)


def _are_categories(value: object) -> bool:
    if not isinstance(value, list) or not 0 < len(value) <= CATEGORIES_MAX:
        return False
    if not all(isinstance(text, str) for text in value) or len(set(value)) < len(value):
        return False
    return sum(len(text.encode(errors="surrogatepass")) for text in value) <= CATEGORIES_BYTES_MAX


_FLAG: Final = Option("true or false", lambda value: isinstance(value, bool))
_TEXT: Final = Option("a text", lambda value: isinstance(value, str))
_COLOUR: Final = Option("a whole number from 0 to 255, or a list of three", _is_colour)
_CATEGORIES: Final = Option(
    f"a list of 1 to {CATEGORIES_MAX} different texts of at most {CATEGORIES_BYTES_MAX} bytes together", _are_categories
)


def _base64(_: Given) -> Ports:
    return Ports((Port("text", "string", ()),), (Port("bytes", "bytes", ()),))


def _decode_image(given: Given) -> Ports:
    channels = 1 if given.get("mode") == "gray" else 3
    return Ports((Port("bytes", "bytes", ()),), (Port("image", "uint8", ("height", "width", channels)),))


def _resize(given: Given) -> Ports:
    image = Port("image", "uint8", (given["height"], given["width"], "channels"))
    taken = image._replace(shape=("height", "width", "channels"))
    return Ports((taken,), (image, Port("placement", "float32", (4,))))


def _tokenize(given: Given) -> Ports:
    texts = ("text", "pair") if given.get("pair") else ("text",)
    numbers = ("input_ids", "attention_mask", "token_type_ids")
    return Ports(
        tuple(Port(name, "string", ()) for name in texts), tuple(Port(name, "int64", ("length",)) for name in numbers)
    )


def _lookup(given: Given) -> Ports:
    if ("categories" in given) == ("file" in given):
        found = "both" if "file" in given else "neither"
        raise PipelineError(f"options 'categories' and 'file': {found} found, one of the two is needed; give one")
    return Ports((Port("text", "string", ()),), (Port("category", "int64", (1,)),))


NATIVE: Final[Mapping[str, StageKind]] = {
    kind.name: kind
    for kind in (
        StageKind("base64", {"alphabet": _choice("standard", "url")}, _base64),
        StageKind(
            "decode_image",
            {"mode": _choice("rgb", "bgr", "gray"), "orientation": _FLAG, "background": _COLOUR},
            _decode_image,
        ),
        StageKind(
            "resize",
            {
                "width": _number(1, SIDE_MAX, required=True),
                "height": _number(1, SIDE_MAX, required=True),
                "fit": _choice("exact", "crop", "letterbox"),
                "shortest": _number(1, SIDE_MAX),
                "fill": _COLOUR,
                "filter": _choice("nearest", "bilinear", "bicubic", "lanczos"),
                "antialias": _FLAG,
            },
            _resize,
        ),
        StageKind(
            "tokenize",
            {
                "file": _TEXT,
                "pair": _FLAG,
                "special_tokens": _FLAG,
                "length_max": _number(1, LENGTH_MAX),
                "truncation": _choice("longest_first", "only_first", "only_second"),
                "side": _choice("right", "left"),
            },
            _tokenize,
        ),
        # The place of a text among the categories, from 0. Another text is `unknown`, or is refused without that.
        StageKind(
            "lookup",
            {"categories": _CATEGORIES, "file": _TEXT, "unknown": _number(-(2**31), 2**31 - 1)},
            _lookup,
        ),
    )
}
"""Every kind by its name."""
