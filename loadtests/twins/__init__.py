"""Pipelines beside twins of theirs in Python, as somebody who knows the libraries writes them."""
