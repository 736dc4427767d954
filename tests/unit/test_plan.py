"""A plan crosses from the process that reads the configuration to the one that serves."""

import subprocess
import sys

from servekit.plan import LogPlan, ManagementPlan, Plan, WrittenPipeline

PLAN = Plan(
    native_json='{"a": "é"}',
    log=LogPlan("info", as_json=True, lines_per_second_max=10, field_bytes_max=256),
    management=ManagementPlan("127.0.0.1", 8002, ("a", "b"), 2**20, 64, 10_000),
    drain_delay_ms=5_000,
    drain_ms_max=25_000,
    warnings=("passed over",),
    pipelines=(
        WrittenPipeline("a", "/models/a", "model.yaml", text="inputs: {x: \udcff}"),
        WrittenPipeline("b", "/models/b", "models: b", table={"raw": True}),
        WrittenPipeline("c", "/models/c", "pipeline.py", is_code=True),
    ),
    allow_code=True,
    is_watching=True,
)


def test_a_plan_is_the_same_on_the_other_side():
    assert Plan.from_json(PLAN.to_json()) == PLAN


def test_the_process_that_serves_never_loads_what_only_reads_the_configuration():
    script = (
        "import sys, servekit.cli.serving, servekit.server, servekit.management.listener,"
        " servekit.management.application\n"
        "print(sorted({'pydantic', 'pydantic_core', 'yaml', 'click', 'numpy', 'numba', 'grpc'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
