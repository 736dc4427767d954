"""The guide's table of errors is the catalogue."""

from grpc import StatusCode

from servekit.errors import CATALOGUE
from tests.unit.guide.tables import rows

GRPC_NAMES = {code.value[0]: code.name for code in StatusCode}


def test_the_table_of_errors_is_the_catalogue():
    written = [
        (row["Label"], row["HTTP"].split(",")[0], row["gRPC"], row["Retry"]) for row in rows("errors.md", "Label")
    ]
    catalogue = [
        (
            f"`{refusal.label}`",
            str(refusal.http or "–"),
            "–" if refusal.grpc is None else GRPC_NAMES[refusal.grpc],
            "yes" if refusal.retry else "no",
        )
        for refusal in CATALOGUE
    ]
    assert written == catalogue


def test_every_error_says_what_it_means_and_what_to_do():
    assert [row["Label"] for row in rows("errors.md", "Label") if not (row["Means"] and row["What to do"])] == []
