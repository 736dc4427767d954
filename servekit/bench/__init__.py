"""Open-loop load on a served model: what `servekit bench` does around the native generator.

The native side carries out one plan (`_native.bench`): one rate, one schedule, prepared bodies. This package makes up
the bodies from the model's own description, finds the capacity, walks over the rates, and tells what came of it.
"""
