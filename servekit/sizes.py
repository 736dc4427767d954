"""Bytes as people read them."""


def sized(byte_total: float) -> str:
    """Prints bytes for people: `64 MiB`, `2.5 GiB`, `900 bytes`."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if byte_total >= unit:
            return f"{byte_total / unit:.1f}".removesuffix(".0") + f" {name}"
    return f"{byte_total:.0f} bytes"
