"""The bodies of a bench: made up from the model's description, or taken from a file."""

import numpy as np

from servekit.bench.encoding import Body, Given, encoded
from servekit.bench.inputs import Lengths, shape_of, values_of
from servekit.bench.settings import Wish, body_of
from servekit.bench.target import Protocol, Target


def bodies(target: Target, protocol: Protocol, wish: Wish, seed: int) -> list[Body]:
    """All bodies; each request draws one by weight."""
    if wish.body is not None:
        return [body_of(wish.body, protocol)]
    tensors, dice = target.inputs(), np.random.default_rng(seed)
    sizes = Lengths.parse(wish.lengths).sizes
    kinds = [(wish.rows, 1.0 - wish.large_share)]
    if wish.large_share:
        kinds.append((wish.large_rows, wish.large_share))
    made = []
    for rows, share in kinds:
        for size in sizes:
            given = [Given(tensor, values_of(tensor, shape_of(tensor, rows, size), dice)) for tensor in tensors]
            made.append(encoded(target, protocol, given, share / len(sizes)))
    return made
