"""The command line: its help, its refusals, and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import safeloss
from safeloss.__main__ import CLOSED_PIPE, COMMANDS, main

REFUSED = [
    ("demo --epochs 0", "'0' is no whole number of at least 1"),
    ("demo --output no/such/folder/demo.png", "is no file in a folder that exists"),
    ("demonstrate", "'demonstrate' is no command. Did you mean 'demo'? Choose from demo,"),
    ("adit a.py:loss", "'adit' is no command. Did you mean 'audit'?"),
    ("GUARD", "Did you mean 'guard'?"),
    ("train", "'train' is no command. Choose from"),
    ("hazards MSELos", "'MSELos' is no loss. Did you mean 'SafeMSELoss'? Choose from"),
    ("hazards safemseloss", "Did you mean 'SafeMSELoss'?"),
    ("--versoin", "usage: safeloss"),
    ("lint . --formt json", "unrecognized arguments: --formt json. Did you mean '--format'?"),
    ("demo --epoch=3 --quik", "Did you mean '--quick'?"),
    ("audit a.py:f --inputs float32[8,1] --target int64[8]", "Did you mean '--input'?"),
    ("guard --arithmetics", "Did you mean '--arithmetic'?"),
    ("hazards --nothing", "unrecognized arguments: --nothing.\n"),
]


@pytest.mark.parametrize(("line", "said"), REFUSED)
def test_a_command_line_is_refused_before_any_work(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(line.split())
    assert refused.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("line", ["", "--help", *(f"{name} --help" for name in COMMANDS)])
def test_help_says_what_exit_codes_mean(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(line.split())
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert "usage: safeloss" in said
    command = COMMANDS.get(line.partition(" ")[0])
    for code, meaning in (command.exits if command else {2: "it could not tell"}).items():
        assert f"\n  {code}  {meaning}\n" in said


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"safeloss {safeloss.__version__}\n"


PIPED = {
    "nobody reads the help": ["--help"],
    "the script prints": ["guard", "prints.py"],
}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a pipe of POSIX")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", PIPED.values(), ids=PIPED)
def test_a_closed_pipe_is_no_traceback(line: list[str], unbuffered: str, tmp_path: Path) -> None:
    (tmp_path / "prints.py").write_text("for line in range(100_000): print(line)\n")
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(safeloss.__file__).parent.parent),
        "PYTHONUNBUFFERED": unbuffered,
    }
    command = [sys.executable, "-m", "safeloss", *line]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, cwd=tmp_path, env=environment) as run:
        assert run.stdout is not None
        assert run.stderr is not None
        run.stdout.close()
        assert run.stderr.read() == b""
        assert run.wait() in (0, CLOSED_PIPE)


def test_a_pipe_of_the_users_own_is_not_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "sends.py"
    script.write_text("raise BrokenPipeError('of a socket')\n")
    with pytest.raises(BrokenPipeError, match="of a socket"):
        main(["guard", str(script)])


def test_the_help_of_guard_says_what_it_does_with_a_crash(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["guard", "--help"])
    assert "crashes the script" in capsys.readouterr().out
