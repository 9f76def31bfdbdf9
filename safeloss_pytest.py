"""`pytest --safeloss-guard`: tests that broadcast in a native loss fail.

It stands beside the package, because pytest imports the plugins of all that is installed, and
importing the package imports torch.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from safeloss import Finding


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("safeloss")
    group.addoption(
        "--safeloss-guard",
        action="store_true",
        help="fail tests in which a native PyTorch loss broadcasts or uses a wrong axis",
    )
    group.addoption(
        "--safeloss-guard-arithmetic",
        action="store_true",
        help="the same, and watch element-wise operators: losses that are written by hand",
    )
    group.addoption(
        "--safeloss-guard-allow",
        action="append",
        default=[],
        metavar="PATTERN",
        help="files whose calls are fine, such as '*/third_party/*'; may be repeated",
    )


def pytest_configure(config: pytest.Config) -> None:
    arithmetic = bool(config.getoption("safeloss_guard_arithmetic"))
    if arithmetic or config.getoption("safeloss_guard"):
        allow = [str(pattern) for pattern in config.getoption("safeloss_guard_allow") or ()]
        config.pluginmanager.register(_Guarded(arithmetic, allow), "safeloss_guarded")


class _Guarded:
    """The plugin while it is on: each test runs under a guard of its own."""

    def __init__(self, arithmetic: bool, allow: list[str]) -> None:
        self.arithmetic = arithmetic
        self.allow = allow
        self.calls = 0
        self.found: dict[str, list[Finding]] = {}  # by test

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        from safeloss import guard

        with guard("log", self.arithmetic, self.allow) as findings:  # the test runs to its end
            try:
                outcome = yield
            finally:
                self.calls += findings.calls
                if findings:
                    self.found[item.nodeid] = findings
        if findings:
            pytest.fail("\n\n".join(map(str, findings)), pytrace=False)
        return outcome

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Each line once, with the tests that ran it."""
        lines: dict[tuple[str, int, str], tuple[Finding, list[str]]] = {}
        for test, findings in self.found.items():
            for finding in findings:
                key = (finding.file, finding.line, finding.loss)
                lines.setdefault(key, (finding, []))[1].append(test)
        write = terminalreporter.write_line
        terminalreporter.section("safeloss guard")
        for finding, tests in lines.values():
            shapes = ", ".join(f"{name} {list(size)}" for name, size in finding.shapes.items())
            write(f"{finding.file}:{finding.line}: {finding.source}")
            write(f"    {finding.loss}: {shapes}")
            if finding.fix:
                write(f"    Fix: {finding.fix}")
            others = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
            write(f"    In {tests[0]}{others}.")
        write(f"Native loss calls seen: {self.calls}. Lines found: {len(lines)}.")
