"""What is asked for: models, with how they are asked and within what time."""

from dataclasses import dataclass, field, replace

from servekit.bench.settings import Settings, Wish

WINDOW_MS = 10.0


class Closely(Settings):
    """Looks so closely that one objective has several windows of the timeline."""

    @property
    def window_ms(self) -> float:
        """The same however long the run is."""
        return WINDOW_MS


@dataclass(frozen=True)
class Subject:
    """A model and its callers."""

    model: str
    settings: Settings
    """The objective among them."""
    wish: Wish = field(default_factory=Wish)

    def by_grpc(self) -> "Subject":
        """Many streams share what a packet costs."""
        return replace(self, settings=replace(self.settings, protocol="grpc"))


TINY = Subject("tiny", Settings(protocol="binary", slo_ms=50.0))
MLP = Subject("mlp", Settings(protocol="binary", slo_ms=50.0))
TEXT = Subject("text", Settings(protocol="binary", slo_ms=100.0), Wish(lengths="lognormal:48:512"))
RESNET = Subject("resnet", Settings(protocol="binary", slo_ms=400.0))
