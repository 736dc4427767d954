"""What every test run does: another order each time, and an honest word on the judges that were not there."""

import random
import shutil

import pytest

# Programs that judge the protocols and that neither pip nor cargo can install.
JUDGES = {"curl": "curl", "wrk": "wrk", "h2load": "nghttp2-client"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--order", type=int, help="repeat the order of an earlier run, by the number in its header")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.order is None:
        config.option.order = random.SystemRandom().randrange(10_000)


def pytest_report_header(config: pytest.Config) -> str:
    return f"order of the tests: --order {config.option.order}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Shuffle the files, and the tests within each: servers that a file shares are started once."""
    dice = random.Random(config.option.order)
    by_file: dict[str, list[pytest.Item]] = {}
    for item in items:
        by_file.setdefault(item.path.as_posix(), []).append(item)
    groups = list(by_file.values())
    dice.shuffle(groups)
    for group in groups:
        dice.shuffle(group)
    items[:] = [item for group in groups for item in group]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.write_line(f"order of the tests: --order {config.option.order}")
    missing = {judge: package for judge, package in JUDGES.items() if not shutil.which(judge)}
    if missing:
        terminalreporter.write_line(f"judges that were not there: {', '.join(missing)}", yellow=True)
        terminalreporter.write_line(f"  on Debian and Ubuntu:  apt-get install {' '.join(missing.values())}")
