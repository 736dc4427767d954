"""The guide's table of limits is the schema."""

from servekit.config.limits import Limits
from tests.unit.guide.tables import rows, shown


def schema():
    for key, field in Limits.model_fields.items():
        about = field.json_schema_extra
        flag = "yes" if about["flag"] else ""
        yield f"`{key}`", shown(key, field.default, about["automatic"]), field.description, flag


def test_the_table_of_limits_is_the_schema():
    written = [(row["Key"], row["Default"], row["Bounds"], row["Flag"]) for row in rows("limits.md", "Key")]
    assert written == list(schema())


def test_every_limit_says_what_happens_past_it():
    assert [row["Key"] for row in rows("limits.md", "Key") if not row["Past it"]] == []
