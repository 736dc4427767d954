"""No key without a case."""

from servekit.config.limits import Limits
from tests.serve import (
    limit_cases_admission,
    limit_cases_decode,
    limit_cases_frames,
    limit_cases_head,
    limit_cases_operation,
    limit_cases_pipelines,
    limit_cases_time,
)

GROUPS = [
    limit_cases_decode.GROUP,
    limit_cases_head.GROUP,
    *limit_cases_frames.GROUPS.values(),
    *limit_cases_time.GROUPS.values(),
    *limit_cases_admission.GROUPS.values(),
    *limit_cases_operation.GROUPS.values(),
    limit_cases_pipelines.GROUP,
]
ARGUED = {
    "memory_bytes_max": "test_limits_admission has a test of its own for its steps",
    "loads_max": "past it the next load waits, which nobody can see from outside",
    "run_failures_max": "a model that answered its own test row once answers it again; core's tests hold the count",
}


def test_every_key_has_one_case():
    entered = [key for group in GROUPS for key in group.cases] + list(ARGUED)
    for checks in (limit_cases_operation.CHECKS, limit_cases_pipelines.CHECKS):
        entered += list(checks)
    assert sorted(entered) == sorted(set(entered))
    assert set(entered) == set(Limits.model_fields)
