"""What is said about a pipeline that cannot be served."""

from collections.abc import Iterable
from difflib import get_close_matches

from servekit.errors import LoadError


class PipelineError(LoadError):
    """A pipeline does not fit together; the text names the step, what was found, what is expected and what to do."""

    def __init__(self, text: str) -> None:
        super().__init__(text, label="model_file")


def meant(given: object, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them."""
    names = [str(name) for name in known]
    nearest = get_close_matches(str(given), names, n=1, cutoff=0.5)
    return f"did you mean '{nearest[0]}'?" if nearest else f"known here: {', '.join(names) or 'none'}"
