"""The command line: `python -m safeloss`, one subcommand a row of `COMMANDS`."""

import argparse
import io
import os
import select
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, TextIO

from safeloss._lint import command as lint
from safeloss._migrate import command as migrate
from safeloss._spelling import did_you_mean
from safeloss._version import __version__

CLOSED_PIPE = 128 + 13  # what a shell says of a program that SIGPIPE has ended


class Command(NamedTuple):
    """A subcommand: a line for the list, a lesson for its own help, its options and its body."""

    summary: str
    lesson: str
    exits: Mapping[int, str]  # what its exit codes mean
    add_options: Callable[[argparse.ArgumentParser], object]
    run: Callable[[argparse.Namespace], int]  # the exit code


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def file_to_write(text: str) -> Path:
    """A path in a folder that exists: known before the work is done, not after."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no file in a folder that exists")
    return path


def file_to_run(text: str) -> Path:
    """A path of a file that is there."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return path


def demo_options(parser: argparse.ArgumentParser) -> None:
    """The options of `demo`."""
    add = parser.add_argument
    add("--output", type=file_to_write, default=Path("demo.png"), metavar="PNG",
        help="where the picture goes (default: %(default)s)")  # fmt: skip
    add("--epochs", type=positive, metavar="N", help="epochs of every training")
    add("--quick", action="store_true", help="fewer batch sizes and epochs: seconds, less to see")


def demo(options: argparse.Namespace) -> int:
    """Train, print and draw: see `safeloss._demo`."""
    from safeloss import _demo

    return _demo.run(options.output, options.epochs, options.quick)


def loss_name(text: str) -> str:
    """The name of a loss, with or without `Safe`."""
    from safeloss._hazards import LOSSES

    for name in (text, f"Safe{text}"):
        if name in LOSSES:
            return name
    near = did_you_mean(f"Safe{text.removeprefix('Safe')}", LOSSES)
    choices = ", ".join(LOSSES)
    raise argparse.ArgumentTypeError(f"{text!r} is no loss.{near} Choose from {choices}")


def hazards_options(parser: argparse.ArgumentParser) -> None:
    """The options of `hazards`."""
    parser.add_argument("losses", nargs="*", type=loss_name, metavar="LOSS", help="default: all")
    forms = parser.add_mutually_exclusive_group()
    for form, what in (("json", "everything, for machines"), ("markdown", "as in docs/hazards.md")):
        forms.add_argument(f"--{form}", action="store_const", dest="form", const=form, help=what)
    parser.set_defaults(form="text")


def hazards(options: argparse.Namespace) -> int:
    """Ask PyTorch and safeloss: see `safeloss._hazards`."""
    from safeloss import _hazards

    return _hazards.run(options.losses, options.form)


def report_to_write(text: str) -> Path:
    """A file for a report: a page or a picture."""
    if not text.endswith((".html", ".png")):
        raise argparse.ArgumentTypeError(f"{text!r} ends neither in .html nor in .png")
    return file_to_write(text)


def tensor_to_draw(text: str) -> object:
    """A dtype and a shape, such as float32[8,1]."""
    from safeloss._audit import command

    try:
        return command.spec(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def audit_options(parser: argparse.ArgumentParser) -> None:
    """The options of `audit`."""
    add = parser.add_argument
    add("loss", metavar="PATH.py:FUNCTION",
        help="a function, a module class or an instance; also package.module:FUNCTION")  # fmt: skip
    add("--input", type=tensor_to_draw, required=True, metavar="SPEC",
        help='what the model gives, such as "float32[8,1]": the batch comes first')  # fmt: skip
    add("--target", type=tensor_to_draw, required=True, metavar="SPEC", action="append",
        help='what the loader gives, such as "int64[8]"; again for other arguments')  # fmt: skip
    add("--classes", type=positive, metavar="N",
        help="integer targets are below N (default: size of the class axis, or 2)")  # fmt: skip
    add("--class-dim", type=int, metavar="AXIS",
        help="the axis of the input that holds the classes")  # fmt: skip
    add("--activation", choices=("none", "sigmoid", "softmax", "log_softmax"), default="none",
        help="what the model ends in (default: %(default)s)")  # fmt: skip
    add("--seed", type=int, default=0, metavar="N", help="of the tensors (default: %(default)s)")
    add("--output", type=report_to_write, metavar="FILE", help="also write it: .html or .png")


def audit(options: argparse.Namespace) -> int:
    """Draw tensors, audit and print: see `safeloss._audit.command`."""
    from safeloss._audit import command

    return command.run(
        options.loss,
        options.input,
        options.target,
        classes=options.classes,
        class_dim=options.class_dim,
        activation=options.activation,
        seed=options.seed,
        output=options.output,
    )


def guard_options(parser: argparse.ArgumentParser) -> None:
    """The options of `guard`."""
    add = parser.add_argument
    add("--arithmetic", action="store_true",
        help="also watch element-wise operators: losses that are written by hand")  # fmt: skip
    add("--allow", action="append", default=[], metavar="PATTERN",
        help="files whose calls are fine, such as '*/third_party/*'; may be repeated")  # fmt: skip
    add("script", type=file_to_run, metavar="SCRIPT.py", help="what to run")
    add("arguments", nargs=argparse.REMAINDER, metavar="...", help="its own arguments")


def guard(options: argparse.Namespace) -> int:
    """Run a script under the guard: see `safeloss._guard.script`."""
    from safeloss._guard import script

    return script.run(options.script, options.arguments, options.arithmetic, options.allow)


def page_to_write(text: str) -> Path:
    """A file for a report: a page."""
    if not text.endswith(".html"):
        raise argparse.ArgumentTypeError(f"{text!r} does not end in .html")
    return file_to_write(text)


def check_options(parser: argparse.ArgumentParser) -> None:
    """The options of `check`."""
    add = parser.add_argument
    add("build", metavar="PATH.py:FUNCTION",
        help="a function that returns model, batch, loss and optimizer")  # fmt: skip
    add("--seconds", type=positive, default=60, metavar="N",
        help="no further check begins after so many (default: %(default)s)")  # fmt: skip
    add("--json", action="store_true", help="the same for machines")
    add("--output", type=page_to_write, metavar="FILE", help="also write a page: .html")


def check(options: argparse.Namespace) -> int:
    """Build, check and print: see `safeloss._check.command`."""
    from safeloss._check import command

    return command.run(
        options.build, seconds=options.seconds, as_json=options.json, output=options.output
    )


def error_code(text: str) -> str:
    """A code that stands in a message, such as SL101."""
    from safeloss import _explain

    try:
        return _explain.known_code(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def explain_options(parser: argparse.ArgumentParser) -> None:
    """The options of `explain`."""
    from safeloss import _explain
    from safeloss._messages import catalogue

    add = parser.add_argument
    add("code", nargs="?", type=error_code, metavar="CODE", help="such as SL101; default: list all")
    add("--lang", choices=catalogue.languages(), default=_explain.language(),
        help="default: that of the locale, which is %(default)s")  # fmt: skip
    add("--json", action="store_true", help="the same for machines")


def explain(options: argparse.Namespace) -> int:
    """Print a page or the list: see `safeloss._explain`."""
    from safeloss import _explain

    return _explain.run(options.code, options.lang, options.json)


COMMANDS = {
    "demo": Command(
        "train one classifier with four losses and see which ones learn",
        "A head gives logits [B, 1] and a loader labels [B]. Two losses quietly score every\n"
        "sample against every label; the bug cannot be seen at B = 1 and grows with B. The demo\n"
        "trains on scikit-learn's breast cancer data with the shapes made equal by hand, with\n"
        "both broken losses, and with SafeBCEWithLogitsLoss on the same shapes. It prints a\n"
        "table and writes a picture.\n\n"
        'It needs the packages of the extra: pip install "safeloss[demo]"',
        {
            0: "SafeBCEWithLogitsLoss trained as well as the correct loss",
            1: "it trained worse",
            2: "a package is missing, or the command line is wrong",
        },
        demo_options,
        demo,
    ),
    "hazards": Command(
        "what PyTorch does with loose layouts and numbers, and what the losses here do",
        "Every loss of the installed PyTorch, and ours in its place, is called with layouts that\n"
        "do not fit, with weights along other axes and with numbers in other conventions. What is\n"
        "right is what PyTorch gives for the samples one by one, each with its own target.",
        {
            0: "no loss of safeloss computes a wrong number and says nothing",
            1: "one does",
            2: "the command line is wrong",
        },
        hazards_options,
        hazards,
    ),
    "audit": Command(
        "find out whether a loss mixes the samples of a batch",
        "Draws tensors of the shapes that your model and your loader give, calls the loss on them\n"
        "and on batches with one sample changed, and says what a sample does to the others: no\n"
        "harm, a broadcast to [B, B], a softmax over the batch, a wrong class axis, or a coupling\n"
        "that may be meant. With train.py as\n\n"
        "    def loss(logits, labels):\n"
        "        return ((logits - labels) ** 2).mean()\n\n"
        'python -m safeloss audit train.py:loss --input "float32[8,1]" --target "float32[8]"\n'
        "finds the broadcast and names the fix. The file is imported, not run as a script.",
        {
            0: "no bug was found",
            1: "a bug was found",
            2: "there is no verdict, or the command line is wrong",
        },
        audit_options,
        audit,
    ),
    "check": Command(
        "find out whether a model, with its loss and a batch, is able to learn",
        "Runs a training step on copies and says what is wrong with it, before the first epoch:\n"
        "shapes, the head, the labels, the loss at the start, samples that meet the targets of\n"
        "others, gradients, and whether one batch can be learnt by heart. With train.py as\n\n"
        "    def build():\n"
        "        model = nn.Linear(10, 1)\n"
        "        optimizer = torch.optim.Adam(model.parameters())\n"
        "        return model, next(iter(loader)), nn.MSELoss(), optimizer\n\n"
        "python -m safeloss check train.py:build\n"
        "prints a line for each check. The loss and the optimizer may be left out; a dictionary\n"
        "gives other arguments of `safeloss.check`, such as `step`. The file is imported, not run\n"
        "as a script.",
        {
            0: "no line fails",
            1: "a line fails",
            2: "nothing could be checked, or the command line is wrong",
        },
        check_options,
        check,
    ),
    "guard": Command(
        "run a script and list the lines where native losses broadcast",
        "The script runs as `python SCRIPT.py ...` would run it, with every call of a native loss\n"
        "of torch.nn watched: its own, and those of the libraries that it uses. Where predictions\n"
        "met targets that are not theirs (logits [B, 1] and labels [B]), or a loss read a wrong\n"
        "axis, the line is printed at the end, with the shapes and the fix. --arithmetic also\n"
        "watches losses that are written by hand.\n\n"
        "If a function of PyTorch's crashes the script, the traceback ends with what safeloss\n"
        "says of that call: the shapes and dtypes of its tensors, where these came from, and a\n"
        "fix where there is one. The exit code stays that of the crash.\n\n"
        "torch.compile is off in the run, since compiled code is not seen, and so are DataLoader\n"
        "workers and other threads.",
        {
            0: "nothing was found, and the script ended well",
            1: "something was found, or the script failed; if it exits with a code, that is taken",
            2: "the command line is wrong",
        },
        guard_options,
        guard,
    ),
    "lint": Command(lint.SUMMARY, lint.LESSON, lint.EXITS, lint.add_options, lint.run),
    "migrate": Command(
        migrate.SUMMARY, migrate.LESSON, migrate.EXITS, migrate.add_options, migrate.run
    ),
    "explain": Command(
        "explain a code such as SL101, which stands at the start of a message",
        "Prints what the code means, a short program that shows it, and what to do. Without a\n"
        "code it lists them all: SL1xx are about shapes and dtypes, SL2xx about source code\n"
        "(see `lint`), SL3xx about the numbers, SL4xx are checks before training.",
        {0: "it was explained", 2: "there is no such code"},
        explain_options,
        explain,
    ),
}


def listed(exits: Mapping[int, str]) -> str:
    """The exit codes for the end of a help."""
    rows = "".join(f"\n  {code}  {meaning}" for code, meaning in exits.items())
    return f"exit code:{rows}"


class CommandParser(argparse.ArgumentParser):
    """The parser of one command, which asks after an option that is nearly one of its own."""

    given: Sequence[str] = ()  # the words of the whole command line

    def error(self, message: str) -> NoReturn:
        options = [name for name in self._option_string_actions if name.startswith("--")]
        for word in self.given:
            name = word.partition("=")[0]
            if name.startswith("--") and not any(each.startswith(name) for each in options):
                message += did_you_mean(name, options)
                break
        super().error(message)


def parser(given: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of the whole command line, which is about to parse `given`."""
    plain = argparse.RawDescriptionHelpFormatter
    root = argparse.ArgumentParser(
        prog="safeloss",
        description="Losses that score every prediction against its own target, or say why not.",
        epilog="`safeloss COMMAND --help` explains a command.\n\n"
        + listed({0: "all is well", 1: "a command found a bug", 2: "it could not tell"}),
        formatter_class=plain,
    )
    root.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = root.add_subparsers(
        dest="command", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for name, command in COMMANDS.items():
        own = commands.add_parser(
            name,
            help=command.summary,
            description=command.lesson,
            epilog=listed(command.exits),
            formatter_class=plain,
        )
        own.given = given
        command.add_options(own)
        own.set_defaults(parser=own)
    return root


def dispatch(arguments: Sequence[str]) -> int:
    """Run one subcommand and return its exit code."""
    root = parser(arguments)
    if arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        near = did_you_mean(arguments[0], COMMANDS)
        root.error(f"{arguments[0]!r} is no command.{near} Choose from {', '.join(COMMANDS)}")
    options, unknown = root.parse_known_args(arguments or ["--help"])  # alone: everything there is
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}.")
    return COMMANDS[options.command].run(options)


def reader_has_gone() -> bool:
    """Whether nobody reads what is printed, as after `| head`: then nothing more is."""
    if sys.stdout is None:
        return False
    try:
        sys.stdout.flush()
        gone = is_broken(sys.stdout)
    except BrokenPipeError:
        gone = True
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone


def is_broken(stream: TextIO) -> bool:
    """Whether it is a pipe without a reader, of which a flush of nothing does not tell."""
    try:
        number = stream.fileno()
    except io.UnsupportedOperation:  # no file, as in a notebook
        return False
    if not hasattr(select, "poll"):  # Windows
        return False
    pipe = select.poll()
    pipe.register(number, 0)
    return any(event & select.POLLERR for _, event in pipe.poll(0))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line, which ends quietly where its output is closed."""
    try:
        return dispatch(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        if not reader_has_gone():
            raise  # a pipe of the user's own
        return CLOSED_PIPE
    finally:
        reader_has_gone()  # or Python would say so at its end, in a traceback


if __name__ == "__main__":
    sys.exit(main())
