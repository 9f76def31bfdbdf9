"""What `safeloss migrate` writes, what it leaves, and that nothing is lost on the way."""

import codecs
import inspect
import json
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import crashing
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import safeloss
from safeloss import functional as SF
from safeloss.__main__ import main
from safeloss._source import table

cst = pytest.importorskip("libcst")

from safeloss._migrate import configs, notebooks  # noqa: E402  # they need LibCST
from safeloss._migrate.rewrite import rewrite  # noqa: E402
from safeloss._source import files, work  # noqa: E402

F = torch.nn.functional


# ---- the table of names


def test_the_table_has_every_loss_there_is() -> None:
    missing = {"LinearCrossEntropyLoss", "linear_cross_entropy"}  # before torch 2.13
    assert {cls.__name__ for cls in safeloss.SAFE} >= set(table.CLASSES) - missing
    assert set(table.CLASSES) >= {cls.__name__ for cls in safeloss.SAFE}
    native = {name for name in SF.__all__ if hasattr(F, name)}
    assert native >= set(table.FUNCTIONS) - missing
    assert set(table.FUNCTIONS) >= native


@pytest.mark.parametrize("name", [*table.CLASSES, *table.FUNCTIONS])
def test_the_table_has_the_parameters_of_torch_and_of_what_replaces_it(name: str) -> None:
    native = getattr(nn, name, None) or getattr(F, name, None)
    if native is None:
        pytest.skip("this torch does not have it")
    replacement = safeloss
    for part in table.replacement(name).split(".")[1:]:
        replacement = getattr(replacement, part)
    listed = (table.CLASSES | table.FUNCTIONS)[name]
    for loss in (native, replacement):
        parameters = inspect.signature(loss).parameters.values()
        positional = tuple(one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD)
        assert listed == positional or (loss is native and listed == positional[: len(listed)])


@pytest.mark.parametrize("name", table.CLASSES)
def test_a_class_and_its_function_are_one_loss(name: str) -> None:
    assert table.either(f"torch.nn.{name}") == table.either(table.replacement(name))
    if table.FUNCTION_OF[name] in table.FUNCTIONS:
        assert table.either(f"torch.nn.functional.{table.FUNCTION_OF[name]}") == table.either(
            f"torch.nn.{name}"
        )


# ---- what is rewritten

REWRITTEN = {
    "aliases of import": (
        """
        import torch
        import torch.nn as nn
        import torch.nn.functional as F
        from torch.nn import MSELoss as M, L1Loss
        from torch.nn.functional import nll_loss

        a = nn.CrossEntropyLoss(label_smoothing=0.1)
        b = torch.nn.functional.cross_entropy(x, y)
        c = F.relu(F.mse_loss(x, y)) + M()(x, y) + L1Loss()(x, y)
        d = nll_loss(x, y) + nn.functional.kl_div(x, y) + torch.nn.modules.loss.BCELoss()(x, y)
        """,
        """
        import torch.nn.functional as F
        from safeloss import SafeBCELoss, SafeCrossEntropyLoss, SafeL1Loss, SafeMSELoss
        from safeloss import functional as SF

        a = SafeCrossEntropyLoss(label_smoothing=0.1)
        b = SF.cross_entropy(x, y)
        c = F.relu(SF.mse_loss(x, y)) + SafeMSELoss()(x, y) + SafeL1Loss()(x, y)
        d = SF.nll_loss(x, y) + SF.kl_div(x, y) + SafeBCELoss()(x, y)
        """,
    ),
    "references and base classes": (
        """
        from functools import partial

        from torch import nn
        from torch.nn import functional as F

        criterion = nn.MSELoss
        LOSSES = {"ce": nn.CrossEntropyLoss, "l1": partial(F.l1_loss, reduction="sum")}


        class Weighted(nn.CrossEntropyLoss):
            def __init__(self, criterion=nn.MSELoss()):
                super().__init__()
        """,
        """
        from functools import partial

        from safeloss import SafeCrossEntropyLoss, SafeMSELoss
        from safeloss import functional as SF

        criterion = SafeMSELoss
        LOSSES = {"ce": SafeCrossEntropyLoss, "l1": partial(SF.l1_loss, reduction="sum")}


        class Weighted(SafeCrossEntropyLoss):
            def __init__(self, criterion=SafeMSELoss()):
                super().__init__()
        """,
    ),
    "types stay": (
        """
        from torch import nn
        from torch.nn import MSELoss


        def f(loss: nn.MSELoss, other: "nn.L1Loss | None" = None) -> MSELoss:
            if isinstance(loss, (MSELoss, nn.L1Loss)) or type(loss) is MSELoss:
                nn.MSELoss.forward(loss, x, y)
            return MSELoss()
        """,
        """
        from safeloss import SafeMSELoss
        from torch import nn
        from torch.nn import MSELoss


        def f(loss: nn.MSELoss, other: "nn.L1Loss | None" = None) -> MSELoss:
            if isinstance(loss, (MSELoss, nn.L1Loss)) or type(loss) is MSELoss:
                nn.MSELoss.forward(loss, x, y)
            return SafeMSELoss()
        """,
    ),
    "imports inside": (
        """
        try:
            import torch.nn.functional as F
        except ImportError:
            F = None


        def f(x, y):
            from torch.nn.functional import mse_loss  # late

            return mse_loss(x, y) + F.l1_loss(x, y)


        def g(F):
            return F.mse_loss(1, 2)
        """,
        """
        try:
            from safeloss import functional as SF
        except ImportError:
            F = None


        def f(x, y):
            from safeloss import functional as SF

            return SF.mse_loss(x, y) + SF.l1_loss(x, y)


        def g(F):
            return F.mse_loss(1, 2)
        """,
    ),
    "only what the change made unused is taken out": (
        """
        import os
        import torch
        from torch import nn, optim
        from torch.nn import (
            Linear,  # a layer
            MSELoss,  # a loss
        )
        import torch.nn.functional as F  # noqa: F401

        __all__ = ["Linear"]
        loss = MSELoss()
        other = F.l1_loss(loss, nn.L1Loss()(x, y))
        """,
        """
        import os
        import torch
        from safeloss import SafeL1Loss, SafeMSELoss
        from safeloss import functional as SF
        from torch import optim
        from torch.nn import (
            Linear,  # a layer
        )
        import torch.nn.functional as F  # noqa: F401

        __all__ = ["Linear"]
        loss = SafeMSELoss()
        other = SF.l1_loss(loss, SafeL1Loss()(x, y))
        """,
    ),
    "a taken name": (
        """
        from torch import nn

        SafeMSELoss = 1
        SF = 2
        a = nn.MSELoss()
        b = nn.functional.mse_loss(x, y)
        """,
        """
        from safeloss import functional as safe_F
        from torch import nn

        SafeMSELoss = 1
        SF = 2
        a = nn.MSELoss()
        b = safe_F.mse_loss(x, y)
        """,
    ),
    "what is there already": (
        """
        from safeloss import SafeMSELoss
        from safeloss import functional as safe
        from torch import nn

        a = nn.MSELoss(), nn.functional.l1_loss(x, y), nn.Linear(1, 1)
        """,
        """
        from safeloss import SafeMSELoss
        from safeloss import functional as safe
        from torch import nn

        a = SafeMSELoss(), safe.l1_loss(x, y), nn.Linear(1, 1)
        """,
    ),
    "one line": (
        "import torch as t; import torch.nn as nn; print(nn.MSELoss())",
        "import torch as t; import torch.nn as nn; from safeloss import SafeMSELoss;"
        " print(SafeMSELoss())",
    ),
    "star": (
        """
        from torch.nn import *

        a = Sequential(Linear(1, 1)), MSELoss()
        """,
        """
        from safeloss import SafeMSELoss
        from torch.nn import *

        a = Sequential(Linear(1, 1)), SafeMSELoss()
        """,
    ),
    "doctests keep what they use": (
        '''
        import torch.nn.functional as F


        def f(x):
            """
            >>> F.mse_loss(1, 2)
            """
            return F.mse_loss(x, x)
        ''',
        '''
        import torch.nn.functional as F
        from safeloss import functional as SF


        def f(x):
            """
            >>> F.mse_loss(1, 2)
            """
            return SF.mse_loss(x, x)
        ''',
    ),
}


@pytest.mark.parametrize(("before", "after"), REWRITTEN.values(), ids=REWRITTEN)
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_what_is_rewritten(before: str, after: str, newline: str) -> None:
    before, after = (
        textwrap.dedent(text).lstrip("\n").replace("\n", newline) for text in (before, after)
    )
    done = rewrite(before)
    assert done.text == after
    assert rewrite(after).text == after
    compile(after, "after.py", "exec")


LEGACY = [
    # before,                                           after
    ("nn.MSELoss(size_average=False)", 'SafeMSELoss(reduction="sum")'),
    ("nn.MSELoss(False)", 'SafeMSELoss(reduction="sum")'),
    ("nn.MSELoss(size_average=True)", "SafeMSELoss()"),
    ("nn.MSELoss(None, None, 'sum')", "SafeMSELoss(reduction='sum')"),
    ("nn.MSELoss(reduce=False, size_average=True,)", 'SafeMSELoss(reduction="none",)'),
    ("nn.MSELoss(reduction='none', size_average=False)", 'SafeMSELoss(reduction="sum")'),
    ("nn.NLLLoss(w, False, 7)", 'SafeNLLLoss(w, reduction="sum", ignore_index=7)'),
    ("F.cross_entropy(x, y, size_average=False)", 'SF.cross_entropy(x, y, reduction="sum")'),
    (
        "F.cross_entropy(\n    (x), y, None, False, -1,  # all\n)",
        'SF.cross_entropy(\n    (x), y, None, reduction="sum", ignore_index=-1,  # all\n)',
    ),
    (
        "F.l1_loss(F.mse_loss(x, y, reduce=False), y, size_average=False)",
        'SF.l1_loss(SF.mse_loss(x, y, reduction="none"), y, reduction="sum")',
    ),
    ("nn.MSELoss(size_average=flag)", "SafeMSELoss(size_average=flag)"),
    ("nn.MSELoss(size_average=False, **more)", "SafeMSELoss(size_average=False, **more)"),
]


@pytest.mark.parametrize(("before", "after"), LEGACY)
def test_legacy_arguments_become_a_reduction(before: str, after: str) -> None:
    imports = "from torch import nn\nimport torch.nn.functional as F\nprint(nn, F)\n"
    done = rewrite(imports + before + "\n")
    assert done.text.endswith(f"\n{after}\n")
    assert bool(done.notes) is ("flag" in before or "more" in before)


@pytest.mark.filterwarnings("ignore:size_average and reduce args:UserWarning")
@given(st.sampled_from([None, True, False]), st.sampled_from([None, True, False]))
def test_the_reduction_is_that_which_torch_reads(size_average, reduce) -> None:
    from safeloss._migrate.arguments import reduction

    expected = F.mse_loss(torch.ones(3), torch.zeros(3), size_average, reduce)
    wanted = reduction(size_average, reduce) or "mean"
    assert torch.equal(expected, SF.mse_loss(torch.ones(3), torch.zeros(3), reduction=wanted))


LEFT = [
    ("getattr(nn, loss_name)", "run time"),
    ("loss = getattr(nn, name)()", "run time"),
    ("torch.jit.script\n@torch.jit.script\ndef f(x): return F.mse_loss(x, x)", "TorchScript"),
    ("f'{nn.MSELoss()}'", "f-string"),
    ("nn.MSELoss = None", "replaced"),
    ("path = 'torch.nn.MSELoss'", "string"),
    ("cast(nn.MSELoss, x)", "a type"),
    ("by_class = {nn.MSELoss: 1}", "a key"),
    ("kind = nn.MSELoss | None", "a type"),
    ("Loss = Union[nn.MSELoss, None]", "a type"),
    ("loss = nn.MSELoss()  # safeloss: ignore  (TorchScript)", "comment"),
    ("def f(F): return F.mse_loss(1, 2)", "not known"),
]


@pytest.mark.parametrize(("source", "why"), LEFT)
def test_what_is_left_is_said(source: str, why: str) -> None:
    text = f"import torch\nfrom torch import nn\nimport torch.nn.functional as F\n{source}\n"
    done = rewrite(text)
    assert done.text == text
    (site,) = done.sites
    assert why in site.left
    assert site.line == 4 + source[: source.rfind("\n") + 1].count("\n")


@pytest.mark.parametrize(
    "source", ["act = getattr(nn, name)()", "getattr(nn, 'ReLU')", "nn.Linear"]
)
def test_what_is_no_loss_is_not_said(source: str) -> None:
    assert not rewrite(f"from torch import nn\n{source}\n").sites


def test_names_that_other_files_import_stay(tmp_path: Path) -> None:
    text = "import torch.nn.functional as F\nloss = F.mse_loss\n"
    for name in ("taken.py", "starred.py", "plain.py", "__init__.py"):
        (tmp_path / name).write_text(text)
    (tmp_path / "user.py").write_text("from .taken import (\n    F,\n)\nfrom starred import *\n")
    assert main(["migrate", "--write", str(tmp_path)]) == 0
    kept = {path.name for path in tmp_path.iterdir() if "as F\n" in path.read_text()}
    assert kept == {"taken.py", "starred.py", "__init__.py"}


def test_multi_label_soft_margin_has_a_note() -> None:
    done = rewrite("from torch import nn\nloss = nn.MultiLabelSoftMarginLoss()\n")
    assert [(line, "MultiLabelBCE" in note) for line, note in done.notes] == [(2, True)]


# ---- YAML

YAML = """\
model:
  criterion:
    _target_: torch.nn.CrossEntropyLoss  # the loss
  other: {class_path: "torch.nn.modules.loss.L1Loss", init_args: {}}
  fn: { _target_: torch.nn.functional.mse_loss, _partial_: true }
  list:
    - class_path: 'torch.nn.MSELoss'
  name: torch.nn.MSELoss
  # _target_: torch.nn.MSELoss
  layer: {_target_: torch.nn.Linear}
  text: |
    _target_: torch.nn.MSELoss
"""


def test_yaml() -> None:
    done = configs.rewrite(YAML.replace("\n", "\r\n"))
    after = (
        YAML.replace("torch.nn.CrossEntropyLoss", "safeloss.SafeCrossEntropyLoss")
        .replace("torch.nn.modules.loss.L1Loss", "safeloss.SafeL1Loss")
        .replace("torch.nn.functional.mse_loss", "safeloss.functional.mse_loss")
        .replace("'torch.nn.MSELoss'", "'safeloss.SafeMSELoss'")
    )
    assert done.text == after.replace("\n", "\r\n")
    assert [site.line for site in done.sites if site.left] == [8, 12]


# ---- notebooks


def notebook(*cells: object, indent: int | None = 1, **more: object) -> str:
    body = {
        "cells": [
            {"cell_type": "code", "metadata": {}, "outputs": [{"x": 1e-05}], "source": cell}
            if not isinstance(cell, dict)
            else cell
            for cell in cells
        ],
        "nbformat": 4,
        **more,
    }
    return json.dumps(body, indent=indent, ensure_ascii=False) + "\n"


CELLS = (
    {"cell_type": "markdown", "source": ["nn.MSELoss()"]},
    ["%matplotlib inline\n", "import torch\n", "from torch import nn  # é"],
    ["!pip install x\n", "!ls\n", "loss = nn.MSELoss()\n", "loss?"],
    "print(nn.L1Loss())",
    ["%%bash\n", "echo nn.MSELoss()"],
    ["this is no Python nn.MSELoss()"],
    [],
    "",
)


@pytest.mark.parametrize("indent", [None, 1, 2])
def test_a_notebook(indent: int | None) -> None:
    text = notebook(*CELLS, indent=indent)
    done = notebooks.notebook(text)
    cells = [cell["source"] for cell in json.loads(done.text)["cells"]]
    assert cells[1] == [
        "%matplotlib inline\n",
        "import torch\n",
        "from safeloss import SafeL1Loss, SafeMSELoss\n",
    ] or cells[1] == [
        "%matplotlib inline\n",
        "import torch\n",
        "from safeloss import SafeL1Loss, SafeMSELoss",
    ]
    assert cells[2] == ["!pip install x\n", "!ls\n", "loss = SafeMSELoss()\n", "loss?"]
    assert cells[3] == "print(SafeL1Loss())"
    same = [place for place in range(len(CELLS)) if place not in (1, 2, 3)]
    before = json.loads(text)["cells"]
    assert [json.loads(done.text)["cells"][one] for one in same] == [before[one] for one in same]
    assert done.text.count("1e-05") == text.count("1e-05")
    assert [site.line for site in done.sites] == [6, 8]
    assert notebooks.notebook(done.text).text == done.text


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"cells": 1}', '{"cells": [{"cell_type": "code"}]}', "[" * 100_000]
)
def test_what_is_no_notebook_is_skipped(text: str) -> None:
    with pytest.raises(files.Skipped):
        notebooks.notebook(text)


# ---- files that somebody else wrote

LOSS = b"from torch import nn\nloss = nn.MSELoss()\n"
SAFE = b"from safeloss import SafeMSELoss\nloss = SafeMSELoss()\n"

ODD = {
    "deep.py": (b"import torch.nn as nn\nx = nn.MSELoss(" + b"(" * 9000 + b")" * 9000, "parse"),
    "minus.py": (b"import torch.nn as nn\nnn.MSELoss\nx = " + b"-" * 99_000 + b"1\n", ""),
    "sum.py": (b"import torch.nn as nn\nnn.MSELoss\nx = 1" + b" + 1" * 9000, ""),
    "huge.py": (LOSS + b"#" * (1 << 20), "larger"),
    "latin.py": (LOSS + "# é\n".encode("latin-1"), "encoding"),
    "unknown.py": (b"# coding: klingon\n" + LOSS, "encoding"),
    "rot13.py": (b"# coding: rot13\n" + LOSS, "encoding"),
    "null.py": (LOSS + b"\0", "parse"),
    "two.py": (LOSS + b"print 'Python 2'\n", "line 3"),
    "generated.py": (b"# Generated by a program. DO NOT EDIT.\n" + LOSS, "program"),
    "bad.ipynb": (b'{"cells": "torch MSELoss"}', "notebook"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_are_left_and_said(name: str, tmp_path: Path, capsys) -> None:
    data, why = ODD[name]
    (tmp_path / name).write_bytes(data)
    (tmp_path / "good.py").write_bytes(LOSS)
    assert main(["migrate", "--write", str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert (tmp_path / "good.py").read_bytes() == SAFE
    if why:
        assert (tmp_path / name).read_bytes() == data
        assert f"{name}: skipped: " in said
        assert why in said
    assert main(["lint", str(tmp_path)]) == 0
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("head", "encoding"),
    [(codecs.BOM_UTF8, "utf-8"), (b"# coding: latin-1\n", "latin-1"), (b"", "utf-8")],
)
def test_marks_and_encodings_are_kept(head: bytes, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(head + LOSS + "# é\r\nx = 1\f\n".encode(encoding))
    assert main(["migrate", "--write", str(path)]) == 0
    assert path.read_bytes() == head + SAFE + "# é\r\nx = 1\f\n".encode(encoding)


def test_the_mode_is_kept_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(LOSS)
    path.chmod(0o750)
    assert main(["migrate", "--write", str(tmp_path)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    assert [one.name for one in tmp_path.iterdir()] == ["a.py"]


def test_a_read_only_file_is_said(tmp_path: Path, capsys) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(LOSS)
    path.chmod(0o444)
    assert main(["migrate", "--write", str(tmp_path)]) == 2
    assert "a.py: skipped: read-only" in capsys.readouterr().err
    assert path.read_bytes() == LOSS


def test_a_write_that_fails_loses_nothing(tmp_path: Path, monkeypatch, capsys) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(LOSS)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["migrate", "--write", str(tmp_path)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["a.py"]
    assert path.read_bytes() == LOSS


def test_what_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(b"mine")
    with pytest.raises(files.Skipped, match="meanwhile"):
        files.replace(path, LOSS, SAFE)
    assert path.read_bytes() == b"mine"


def test_links_are_not_followed_out_of_the_folder(tmp_path: Path, capsys) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside, inside, inside / ".hidden", inside / "third_party"):
        folder.mkdir()
        (folder / "a.py").write_bytes(LOSS)
    (inside / "link.py").symlink_to(outside / "a.py")
    (inside / "folder").symlink_to(outside)
    (inside / "loop").symlink_to(inside)
    assert main(["migrate", "--write", str(inside)]) == 0
    said = capsys.readouterr().err
    assert "link.py: skipped: a link to what is outside" in said
    assert "third_party: skipped" in said
    assert {path.parent.name for path in tmp_path.rglob("a.py") if path.read_bytes() == SAFE} == {
        "inside"
    }
    assert main(["migrate", "--write", str(inside / "third_party" / "a.py")]) == 0
    assert (inside / "third_party" / "a.py").read_bytes() == SAFE  # it was named


# ---- the command line


def test_the_diff_is_one_that_git_applies(tmp_path: Path, monkeypatch, capsysbinary) -> None:
    monkeypatch.chdir(tmp_path)
    odd = LOSS.replace(b"\n", b"\r\n") + b"# no newline"
    Path("a.py").write_bytes(LOSS)
    Path("b.py").write_bytes(odd)
    assert main(["migrate", "."]) == 0
    diff = capsysbinary.readouterr().out
    assert Path("a.py").read_bytes() == LOSS
    subprocess.run(["git", "apply", "-"], input=diff, check=True, cwd=tmp_path)
    assert Path("a.py").read_bytes() == SAFE
    assert Path("b.py").read_bytes() == SAFE.replace(b"\n", b"\r\n") + b"# no newline"


def test_the_exit_codes(tmp_path: Path, capsys, monkeypatch) -> None:
    path = tmp_path / "a.py"
    path.write_bytes(LOSS)
    assert main(["migrate", "--check", str(tmp_path)]) == 1
    assert main(["migrate", "--write", str(tmp_path)]) == 0
    assert main(["migrate", "--check", str(tmp_path)]) == 0
    path.write_text("from torch import nn\nloss = getattr(nn, name)()\n")
    capsys.readouterr()
    assert main(["migrate", "--check", str(tmp_path)]) == 0  # what is only reported does not count
    assert "a.py:2: left: " in capsys.readouterr().err
    assert main(["migrate", str(tmp_path / "nothing")]) == 2
    monkeypatch.setitem(sys.modules, "libcst", None)
    assert main(["migrate", str(tmp_path)]) == 2
    assert 'pip install "safeloss[migrate]"' in capsys.readouterr().err


@pytest.mark.slow
def test_many_files_are_read_in_processes(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number:03}.py").write_bytes(LOSS)
    assert main(["migrate", "--write", str(tmp_path)]) == 0
    assert all(path.read_bytes() == SAFE for path in tmp_path.iterdir())


@pytest.mark.slow
def test_a_file_that_ends_its_process_loses_no_other() -> None:
    paths = [Path(str(number)) for number in range(100)]
    names = [path.name for path in paths]
    names[50] = "lost 50"
    assert list(work.over(paths, crashing.ask, crashing.lost)) == names


@pytest.mark.slow
@pytest.mark.parametrize("command", ["lint", "migrate"])
def test_torch_is_not_imported(command: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(LOSS)
    script = (
        f"import sys; from safeloss.__main__ import main; main([{command!r}, {str(tmp_path)!r}]);"
        " sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


# What is not a loss, in all kinds of blanks, line ends and letters.
PIECES = [
    "x = 1",
    "# é",
    "s = '''\n a'''",
    "",
    "  # c",
    "s = 'ü\f'; f(LOSS())",
    "f(LOSS)",
    "if 1:\n\tLOSS",
]


@given(
    st.lists(st.sampled_from(PIECES), max_size=8),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
def test_the_rest_stays_to_the_byte(pieces: list[str], newline: str, end: bool) -> None:
    body = newline.join(piece.replace("\n", newline) for piece in pieces) + newline * end
    head = f"from torch import nn{newline}nn.Linear{newline}"
    done = rewrite(head + body.replace("LOSS", "nn.MSELoss")).text
    added = f"from safeloss import SafeMSELoss{newline}" if "LOSS" in body else ""
    assert done == added + head + body.replace("LOSS", "SafeMSELoss")
    assert rewrite(done).text == done
