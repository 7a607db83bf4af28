# SPDX-License-Identifier: Apache-2.0
"""What every test shares: the choice of kernels, their summary, and the order of the suites.

Owns pytest's own options and reports. Never boots anything: fixtures for guests are with their suites.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import settings

from enricher import forms

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# The sources run in this process, also where they were compiled, and before any suite imports one: tests put things
# into modules, and classes that were compiled have no room. That both forms give the same is tests/unit/test_forms.py;
# what the tests start, and the suites in guests, runs what the package has.
forms.interpret()

FIRST = ("lint", "unit", "workload", "demo")
"""Suites that take seconds, so that their failures are known before the first guest boots; and the demo,
which boots one of its own, before those that share one.
"""

LAST = "interop"
"""Compares over the records that the suites in guests have left."""

VM_TIMEOUT = 3600
"""Seconds for a test that may have to build its guest first; the global limit is for all others. Commands in a
guest have limits of their own: this ends what hangs outside of them.
"""


SECONDS: Final = pytest.StashKey[dict[str, defaultdict[str, float]]]()
"""By kernel, how long each suite took: `make test` has a limit, and this is where it goes."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kernel",
        action="append",
        default=[],
        help="run the suites in virtual machines on this kernel slot only (may be repeated)",
    )
    parser.addoption(
        "--full",
        action="store_true",
        help="the sizes that `make soak-...` runs, and the tests marked `full`",
    )
    parser.addoption(
        "--rows",
        default="",
        help="of `make accuracy` these rows only, as ROW,ROW, and without the programs it is compared with",
    )
    parser.addoption(
        "--rest", action="store_true", help="as --full, without what runs in the same way without it"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--rest"):
        config.option.full = True
    # A machine that is busy with something else makes an example slow, and that is no failure.
    settings.register_profile("any speed", deadline=None)
    settings.load_profile("any speed")
    chosen = config.getoption("--kernel")
    if chosen:
        from tests.vm.kernels import SLOTS

        unknown = [name for name in chosen if name not in SLOTS]
        if unknown:
            raise pytest.UsageError(f"no such kernel: {', '.join(unknown)}; there are {', '.join(SLOTS)}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `kernel` runs once per chosen slot, all tests of one slot together."""
    if "kernel" not in metafunc.fixturenames:
        return
    from tests.vm.kernels import SLOTS

    chosen = metafunc.config.getoption("--kernel") or list(SLOTS)
    marked = [pytest.param(name, marks=(pytest.mark.kernel(name), pytest.mark.vm)) for name in chosen]
    metafunc.parametrize("kernel", marked, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--rest"):
        _leave_out(config, items, lambda item: _is_small(item) and not item.get_closest_marker("grows"))
    elif not config.getoption("--full"):
        _leave_out(config, items, lambda item: not _is_small(item))
    items.sort(key=_suite_rank)  # stable: within a suite, and per kernel, pytest's order stays
    for item in items:
        if _suite(item) == LAST:
            item.add_marker(pytest.mark.interop)
        if item.get_closest_marker("vm") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(VM_TIMEOUT))


def _leave_out(config: pytest.Config, items: list[pytest.Item], out: Callable[[pytest.Item], bool]) -> None:
    config.hook.pytest_deselected(items=list(filter(out, items)))
    items[:] = [item for item in items if not out(item)]


def _is_small(item: pytest.Item) -> bool:
    """Whether a test is run without --full."""
    return not item.get_closest_marker("full") and _is_for_its_kernel(item)


def _is_for_its_kernel(item: pytest.Item) -> bool:
    """Whether a test that names the kernels to which it has something to say runs on one of them."""
    kernel, only = item.get_closest_marker("kernel"), item.get_closest_marker("only_on")
    return kernel is None or only is None or kernel.args[0] in only.args


def _suite(item: pytest.Item) -> str:
    return item.path.relative_to(item.config.rootpath / "tests").parts[0]


def _suite_rank(item: pytest.Item) -> tuple[int, int, bool]:
    from tests.vm.kernels import SLOTS

    suite = _suite(item)
    kernel = item.get_closest_marker("kernel")
    if suite in FIRST:
        return FIRST.index(suite), 0, False
    if suite == LAST:
        return len(FIRST) + 2, 0, False
    if kernel is None:
        return len(FIRST), 0, False
    # There is only one guest at a time: what boots one of its own comes before those that share one.
    slots = list(SLOTS)
    place = slots.index(kernel.args[0]) if kernel.args[0] in slots else len(slots)
    return len(FIRST) + 1, place, "guest" in getattr(item, "fixturenames", ())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    marker = item.get_closest_marker("kernel")
    slot = marker.args[0] if marker else "own"
    if marker:
        report.user_properties.append(("kernel", slot))
    if marker or item.get_closest_marker("vm"):
        suite = item.path.stem.removeprefix("test_")
        item.config.stash.setdefault(SECONDS, {}).setdefault(slot, defaultdict(float))[suite] += (
            report.duration
        )
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Per kernel: its release, how its tests went, and the figures that a test recorded (`record_property`)."""
    counts: dict[str, Counter[str]] = {}
    said: dict[str, dict[str, str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            properties = dict(getattr(report, "user_properties", ()))  # an error of collection has none
            kernel = properties.pop("kernel", None)
            if kernel is not None:
                counts.setdefault(kernel, Counter())[outcome] += 1
                said.setdefault(kernel, {}).update({name: str(value) for name, value in properties.items()})
    if not counts:
        return
    terminalreporter.section("kernels")
    for kernel, tally in counts.items():
        outcomes = ", ".join(f"{number} {outcome}" for outcome, number in tally.items())
        terminalreporter.write_line(f"{kernel:8} {said[kernel].pop('release', ''):32} {outcomes}")
        for name, value in said[kernel].items():
            terminalreporter.write_line(f"         {name}: {value}")
    for kernel, seconds in terminalreporter.config.stash.get(SECONDS, {}).items():
        suites = ", ".join(
            f"{suite} {took:.0f}" for suite, took in sorted(seconds.items(), key=lambda pair: -pair[1])
        )
        terminalreporter.write_line(f"{kernel:8} {sum(seconds.values()):.0f} seconds: {suites}")
