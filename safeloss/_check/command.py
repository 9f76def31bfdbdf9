"""`python -m safeloss check`: build a training, check it, print the report."""

import contextlib
import json
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safeloss._audit.command import loss_at
from safeloss._check import Check, check

NO_VERDICT = 2  # the exit code, as for a command line that is wrong
_ORDER = ("model", "batch", "loss", "optimizer")


def arguments_of(built: Any) -> dict[str, Any]:
    """What a `build()` returned, as the arguments of `check`."""
    if isinstance(built, Mapping):
        return dict(built)
    if isinstance(built, tuple) and 2 <= len(built) <= len(_ORDER):
        return dict(zip(_ORDER, built))
    raise ValueError(
        f"build() must return a tuple ({', '.join(_ORDER)}), of which the last two may be left "
        f"out, or a dictionary of the arguments of `safeloss.check`; it returned a "
        f"{type(built).__name__}"
    )


def run(place: str, *, seconds: float, as_json: bool, output: Path | None) -> int:
    """Check and print; the exit code is 0 where no line fails, 1 where one does."""
    try:
        build = loss_at(place)
        with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
            report = check(**{"seconds": seconds, **arguments_of(build())})
    except (ValueError, TypeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return NO_VERDICT
    except (Exception, SystemExit):  # of the user's file, which may raise whatever it likes
        traceback.print_exc()
        return NO_VERDICT
    if output is not None:
        report.save(output)
    if as_json:
        print(json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(report)
        if output is not None:
            print(f"\nReport: {output}")
    return int(not report.ok)


def _show(report: Check) -> None:
    """In colours where somebody can see them, and `rich` is there."""
    if sys.stdout.isatty():
        with contextlib.suppress(ModuleNotFoundError):
            from rich.console import Console

            Console().print(report, highlight=False)
            return
    print(report)
