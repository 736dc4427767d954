"""Models that pipelines run, across all of them: in which order they load, and that none waits for itself."""

from collections.abc import Mapping

from servekit.pipelines.faults import PipelineError
from servekit.pipelines.schema import Pipeline
from servekit.plan import RAW_SUFFIX


def models(name: str, pipeline: Pipeline) -> tuple[str, ...]:
    """Other models that the pipeline of this one names. Its own name, and `.raw`, mean tensors alone."""
    steps = [*pipeline.before, *pipeline.after]
    named = [pipeline.model.name, *(step.model for step in steps)]
    found = (other for other in named if other is not None and other != name and not other.endswith(RAW_SUFFIX))
    return tuple(dict.fromkeys(found))


def ordered(pipelines: Mapping[str, Pipeline]) -> tuple[str, ...]:
    """The names, each after those that its pipeline runs; raises `PipelineError` where models run each other."""
    found: dict[str, None] = {}
    # One stack of names to go on with instead of calls: a configuration may hold a thousand models in a line.
    for first in pipelines:
        path: dict[str, list[str]] = {}
        waiting = [first]
        while waiting:
            name = waiting[-1]
            if name in found or name not in pipelines:
                waiting.pop()
                continue
            left = path.setdefault(name, [other for other in models(name, pipelines[name]) if other in pipelines])
            following = next((other for other in left if other not in found), None)
            if following is None:
                found[name] = None
                path.pop(name)
                waiting.pop()
            elif following in path:
                around = [*waiting[waiting.index(following) :], following]
                raise PipelineError(
                    f"models run each other in a circle, {' → '.join(around)}; take one of these steps out, or name "
                    f"the model's own tensors, {following}{RAW_SUFFIX}"
                )
            else:
                waiting.append(following)
    return tuple(found)
