"""What steps cost, as `servekit check` shows it."""

from servekit.cli.pipeline_report import Costs, PipelineFinding, as_json, lines
from servekit.pipelines.made_up import MadeUp
from tests.unit.pipelines import samples

PLAN = samples.plan(samples.IMAGE_STEPS)
ROW = MadeUp((), "image: a made-up PNG")
STEPS_US = [1912.4, 800.0, 88.25, 12_345.6]


def shown(runs, unknown=None):
    costs = Costs.of({"runs": runs, "unknown": unknown})
    return list(lines(PipelineFinding(PLAN, (), ROW, costs)))


def test_each_step_has_its_cost_behind_it():
    told = shown([{"rows": 1, "steps_us": STEPS_US}])
    assert told[0].startswith("  pipeline   row   before step 1 (decode_image): image bytes")
    assert [line.rpartition("  ")[2] for line in told[:4]] == ["1.9 ms", "800.0 µs", "88.2 µs", "12.3 ms"]
    assert told[4:] == ["  costs      of one row, image: a made-up PNG"]


def test_a_batch_stands_beside_the_row():
    told = shown([{"rows": 1, "steps_us": STEPS_US}, {"rows": 8, "steps_us": [8 * took for took in STEPS_US]}])
    assert told[0].endswith("  1.9 ms, 15.3 ms for 8 rows")


def test_a_step_that_no_entry_came_to_was_not_run():
    told = shown([{"rows": 1, "steps_us": [*STEPS_US[:3], 0.0]}])
    assert told[3].endswith("  not run, as there were no entries")


def test_a_row_that_is_refused_is_told_at_its_step():
    told = shown([], "pipeline of 'own': before step 2 (resize): the image is odd; send another")
    assert [line.rpartition("  ")[2] for line in told[:4]] == [
        "cost unknown",
        "cost unknown, the row was refused: the image is odd; send another",
        "cost unknown",
        "cost unknown",
    ]
    assert len(told) == 5


def test_what_no_step_has_refused_is_told_too():
    assert shown([], "one row is too large")[-1].strip() == "they are unknown: one row is too large"
    told = shown([{"rows": 1, "steps_us": STEPS_US}], "8 rows are too large")
    assert told[0].endswith("  1.9 ms")
    assert told[-1].strip() == "of several rows they are unknown: 8 rows are too large"


def test_machines_get_the_same_numbers():
    costs = {"runs": [{"rows": 1, "steps_us": STEPS_US}], "unknown": None}
    told = as_json(PipelineFinding(PLAN, (), ROW, Costs.of(costs)))["costs"]
    assert told == {"row": ROW.told, "runs": [{"rows": 1, "steps_us": tuple(STEPS_US)}], "unknown": None}
