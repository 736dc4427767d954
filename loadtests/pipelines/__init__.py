"""Pipelines beside services that do the same in Python: `python -m loadtests.pipelines`."""
