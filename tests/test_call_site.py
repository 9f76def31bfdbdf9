"""Refusals in the user's own names: the table, and fixes that are their own line."""

import ast
import copy
import functools
import linecache
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from losses import LOSSES, equal
from torch import nn

import safeloss
from safeloss import SafeBCEWithLogitsLoss, SafeCrossEntropyLoss, SafeLossError, align
from safeloss import functional as SF
from safeloss._messages import call_site

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="instructions have no positions yet"
)

B, C = 8, 3
logits, shares, labels = torch.randn(B, C), torch.arange(B) % 2.0, torch.zeros(B)
batch: dict[str, torch.Tensor] = {"y": labels}
criterion = SafeCrossEntropyLoss()


def refusal(call: Any, *arguments: Any) -> SafeLossError:
    with pytest.raises(SafeLossError) as caught:
        call(*arguments)
    return caught.value


def lines(error: SafeLossError) -> list[str]:
    """The fixes as they are printed."""
    return [x.split(": ", 1)[1] for x in str(error).splitlines() if x.startswith("Fix")]


def test_the_message_of_the_design() -> None:
    error = refusal(lambda: SafeBCEWithLogitsLoss()(logits, batch["y"].long()))
    assert error.expressions == {"input": "logits", "target": 'batch["y"].long()'}
    head, first, second, *_ = str(error).splitlines()
    assert head.startswith("[SL121] SafeBCEWithLogitsLoss: ")
    assert first.startswith("    input  = logits              float32 [8, 3]   ")
    assert second.startswith('    target = batch["y"].long()   int64 [8]        ')
    assert error.fixes[0] == "SafeCrossEntropyLoss()(input, target)"
    assert lines(error)[0] == 'SafeCrossEntropyLoss()(logits, batch["y"].long())'
    for copied in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert str(copied) == str(error)


class Model(nn.Module):
    """Losses as attributes, and one that takes another name for its labels."""

    def __init__(self) -> None:
        super().__init__()
        self.criterion = SafeCrossEntropyLoss()
        self.losses = nn.ModuleList([SafeCrossEntropyLoss()])
        self.table = {"main": self.criterion}

    def training_step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.criterion(x, y)


class Averaged(SafeCrossEntropyLoss):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return super().forward(a, b)


class Mirrored(SafeCrossEntropyLoss):
    def forward(self, target: torch.Tensor, input: torch.Tensor) -> torch.Tensor:
        return super().forward(target=target, input=input)


model, averaged, mirrored = Model(), Averaged(), Mirrored()
partial = functools.partial(SF.cross_entropy, label_smoothing=0.1)
begun = functools.partial(SF.cross_entropy, logits)
optional = functools.partial(SF.cross_entropy, target=shares)
mislaid, named = [shares], {"input": logits, "target": shares}

# What is written, and the fix as a line of the user's own.
WRITTEN = {
    "names": (lambda: criterion(logits, shares), "criterion(logits, shares.long())"),
    "a subscript": (
        lambda: criterion(logits, batch["y"]),
        'criterion(logits, batch["y"].long())',
    ),
    "a subscript of a list": (
        lambda: criterion(logits, mislaid[0]),
        "criterion(logits, mislaid[0].long())",
    ),
    "an operator gets parentheses": (
        lambda: criterion(logits * 2, shares + 1),
        "criterion(logits * 2, (shares + 1).long())",
    ),
    "a sign gets parentheses": (
        lambda: criterion(-logits, -labels),
        "criterion(-logits, (-labels).long())",
    ),
    "a condition gets parentheses": (
        lambda: criterion(logits, shares if B else labels),
        "criterion(logits, (shares if B else labels).long())",
    ),
    "an assignment gets parentheses": (
        lambda: criterion(logits, _y := shares),
        "criterion(logits, (_y := shares).long())",
    ),
    "a call": (
        lambda: criterion(logits.clone(), labels.float()),
        "criterion(logits.clone(), labels.float().long())",
    ),
    "by name": (
        lambda: criterion(target=shares, input=logits),
        "criterion(target=shares.long(), input=logits)",
    ),
    "the second by name": (
        lambda: criterion(logits, target=shares),
        "criterion(logits, target=shares.long())",
    ),
    "forward": (
        lambda: criterion.forward(logits, shares),
        "criterion.forward(logits, shares.long())",
    ),
    "built on the spot": (
        lambda: SafeCrossEntropyLoss(label_smoothing=0.1)(logits, shares),
        "SafeCrossEntropyLoss(label_smoothing=0.1)(logits, shares.long())",
    ),
    "an attribute": (
        lambda: model.criterion(logits, shares),
        "model.criterion(logits, shares.long())",
    ),
    "a list of modules": (
        lambda: model.losses[0](logits, shares),
        "model.losses[0](logits, shares.long())",
    ),
    "a table of modules": (
        lambda: model.table["main"](logits, shares),
        'model.table["main"](logits, shares.long())',
    ),
    "a method": (lambda: model.training_step(logits, shares), "self.criterion(x, y.long())"),
    "a subclass": (lambda: averaged(logits, shares), "super().forward(a, b.long())"),
    "a subclass with parameters of its own": (
        lambda: mirrored(shares, logits),
        "super().forward(target=target.long(), input=input)",
    ),
    "a function": (
        lambda: SF.cross_entropy(logits, shares, label_smoothing=0.1),
        "SF.cross_entropy(logits, shares.long(), label_smoothing=0.1)",
    ),
    "a partial": (lambda: partial(logits, shares), "partial(logits, shares.long())"),
    "a partial that has the input": (lambda: begun(shares), "begun(shares.long())"),
    "a partial on the spot": (
        lambda: functools.partial(SF.cross_entropy, reduction="sum")(logits, shares),
        'functools.partial(SF.cross_entropy, reduction="sum")(logits, shares.long())',
    ),
    "several lines": (
        lambda: criterion(
            logits,  # the scores
            target=shares
            + 1,
        ),
        "criterion(logits, target=(shares + 1).long())",
    ),
    "a chain over several lines": (
        lambda: (
            model
            .criterion(logits, shares)
        ),
        "model.criterion(logits, shares.long())",
    ),
    "letters of two bytes": (
        lambda: criterion(logits, {"é": shares}["é"]),
        'criterion(logits, {"é": shares}["é"].long())',
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
def test_a_fix_is_the_users_own_line(name: str) -> None:
    call, line = WRITTEN[name]
    error = refusal(call)
    assert error.fixes == ("target.long()",)
    assert lines(error) == [line]
    assert error.calls == {"target.long()": line}
    names = {"B": B, "a": logits, "b": labels, "x": logits, "y": labels, "self": model}
    if "super()" not in line:  # where labels of 0 are meant, it computes what it should
        names |= {"shares": labels, "mislaid": [labels], "batch": batch}
        value = eval(line, {**globals(), **names})
        assert value.isfinite()


# Where the call cannot be read, or is another one: the names of the parameters.
UNREAD = {
    "stars": lambda: criterion(*(logits, shares)),
    "a dict": lambda: criterion(**named),
    "a star of one": lambda: criterion(logits, *[shares]),
    "a partial that has the target": lambda: {0: optional}[0](logits.clone()),
    "map": lambda: list(map(criterion, [logits], [shares])),
    "reduce": lambda: functools.reduce(criterion, [logits, shares]),
    "vmap": lambda: torch.vmap(SF.cross_entropy)(logits[:, :, None], shares[:, None]),
    "checkpointing": lambda: torch.utils.checkpoint.checkpoint(
        criterion, logits, shares, use_reentrant=False
    ),
    "the class": lambda: SafeCrossEntropyLoss.forward(criterion, logits, shares),
    "exec": lambda: exec("criterion(logits, shares)", globals()),
    "eval": lambda: eval("criterion(logits, shares)"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_cannot_be_read_keeps_the_names_of_the_parameters(name: str) -> None:
    error = refusal(UNREAD[name])
    assert (error.expressions, error.calls) == ({}, {})
    assert lines(error) == [*error.fixes]
    assert name == "vmap" or lines(error) == ["target.long()"]
    assert "=" not in str(error).split("\n")[1]


def test_a_decorator_with_stars_keeps_them_too() -> None:
    def logged(loss: Any) -> Any:
        @functools.wraps(loss)
        def call(*args: Any, **kwargs: Any) -> Any:
            return loss(*args, **kwargs)

        return call

    assert lines(refusal(lambda: logged(criterion)(logits, shares))) == ["target.long()"]


def test_a_decorated_function_of_the_users_is_read() -> None:
    @torch.no_grad()
    def evaluate(outputs: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        return criterion(outputs, truth)

    assert lines(refusal(evaluate, logits, shares)) == ["criterion(outputs, truth.long())"]


def test_a_hook_that_changes_the_arguments_is_no_part_of_the_line() -> None:
    hooked = SafeCrossEntropyLoss()
    hooked.register_forward_pre_hook(lambda module, given: (given[0], given[1].float()))
    assert refusal(lambda: hooked(logits, labels.long())).expressions == {}
    seen = SafeCrossEntropyLoss()
    seen.register_forward_pre_hook(lambda module, given: None)
    assert lines(refusal(lambda: seen(logits, shares))) == ["seen(logits, shares.long())"]


def test_a_whole_call_has_the_users_arguments_and_weights() -> None:
    loss = SafeCrossEntropyLoss(torch.ones(C))
    words, tags = torch.randn(2, 5, C), torch.zeros(2, 5).long()
    error = refusal(lambda: loss(words, target=tags))
    fix = "SafeCrossEntropyLoss(weight=weight, class_dim=-1)(input, target)"
    line = "SafeCrossEntropyLoss(weight=loss.weight, class_dim=-1)(words, tags)"
    assert error.calls[fix] == line
    assert error.expressions["weight"] == "loss.weight"
    assert eval(line, {**globals(), **locals()}).isfinite()


def test_an_edit_of_what_is_no_argument_of_the_call_belongs_elsewhere() -> None:
    loss, images = SafeBCEWithLogitsLoss(torch.ones(C)), torch.randn(2, C, 4, 4)
    error = refusal(lambda: loss(images, target=images.sigmoid()))
    assert "weight.view(-1, 1, 1)" in error.fixes
    assert "weight.view(-1, 1, 1)" not in error.calls


def test_a_function_stays_as_it_is_called() -> None:
    scores, words = torch.randn(2, 5, C), torch.zeros(2, 5).long()
    (line,) = lines(refusal(lambda: SF.cross_entropy(scores, words)))
    assert line == "SF.cross_entropy(scores, words, class_dim=-1)"
    (line,) = lines(refusal(lambda: safeloss.functional.cross_entropy(scores, words)))
    assert line == "safeloss.functional.cross_entropy(scores, words, class_dim=-1)"
    error = refusal(lambda: SF.mse_loss(logits, torch.randn(B, 1), reduction="sum"))
    assert lines(error) == [
        'SF.mse_loss(logits, torch.randn(B, 1).expand_as(logits), reduction="sum")'
    ]


def test_a_weight_that_is_an_argument_is_edited_in_the_call() -> None:
    per_sample = torch.ones(B)
    error = refusal(
        lambda: SF.binary_cross_entropy_with_logits(logits, logits.sigmoid(), weight=per_sample)
    )
    line = "weight=per_sample.view(-1, 1))"
    assert lines(error)[0].startswith(
        "SF.binary_cross_entropy_with_logits(logits, logits.sigmoid(), "
    )
    assert lines(error)[0].endswith(line)


def test_align_is_a_call_like_others() -> None:
    scores, truth = torch.zeros(B, 1), torch.zeros(1, B)
    error = refusal(lambda: align(truth, like=scores))
    assert error.expressions == {"like": "scores", "target": "truth"}
    assert "align(truth.view_as(scores), like=scores)" in lines(error)


def test_a_constructor_is_a_call_too() -> None:
    error = refusal(lambda: SafeCrossEntropyLoss(weight=[1.0, 2.0]))
    assert lines(error) == ["SafeCrossEntropyLoss(weight=torch.as_tensor([1.0, 2.0]))"]


def test_what_may_be_run_once_only_is_run_once() -> None:
    outputs = iter([torch.randn(B, C)])
    loss = safeloss.SafeMSELoss()
    error = refusal(lambda: loss(next(outputs), torch.randn(B, 1)))
    assert lines(error) == ["loss(input := next(outputs), torch.randn(B, 1).expand_as(input))"]
    outputs = iter([logits])
    assert eval(lines(error)[0], {**globals(), **locals()}).isfinite()


def test_a_name_that_is_in_use_is_not_taken() -> None:
    loss, column = safeloss.SafeMSELoss(), labels[:, None]

    def call(input: torch.Tensor) -> Any:
        return loss(input.clone(), column)

    line = "loss(input_ := input.clone(), column.expand_as(input_))"
    assert lines(refusal(call, logits)) == [line]
    error = refusal(lambda: loss(input=logits.clone(), target=column))
    line = "loss(input=(input_ := logits.clone()), target=column.expand_as(input_))"
    assert lines(error) == [line]


def test_names_that_are_not_imported_are_found_in_the_package() -> None:
    scope = {"sl": safeloss, "x": torch.randn(B, 1), "y": torch.ones(B).long()}
    source = "def call():\n    return sl.SafeCrossEntropyLoss()(x, y)\n"
    call = in_a_file(source, "not_imported.py", scope)
    assert lines(refusal(call)) == ["sl.SafeBCEWithLogitsLoss()(x, y)"]
    scope["SafeBCEWithLogitsLoss"] = SafeBCEWithLogitsLoss
    assert lines(refusal(call)) == ["SafeBCEWithLogitsLoss()(x, y)"]
    del scope["sl"], scope["SafeBCEWithLogitsLoss"]
    scope["SafeCrossEntropyLoss"] = SafeCrossEntropyLoss
    call = in_a_file(source.replace("sl.", ""), "no_package.py", scope)
    assert lines(refusal(call)) == ["SafeBCEWithLogitsLoss()(x, y)"]


@pytest.mark.parametrize("row", LOSSES, ids=str)
def test_the_line_of_every_loss_computes_what_was_meant(row: Any) -> None:
    """The second argument comes as a list."""
    loss, right = row.safe(**row.options), row.batch(4)
    one, two, three, four = [*right, None, None][:4]
    listed = [*two]
    calls = {
        2: lambda: loss(one, listed),
        3: lambda: loss(one, listed, three),
        4: lambda: loss(one, listed, three, four),
    }
    error = refusal(calls[len(right)])
    (line,) = lines(error)
    assert line.startswith("loss(one, torch.")
    assert equal(eval(line, {**globals(), **locals()}), loss(*right))
    assert error.fixes != (line,)


# Sources ----------------------------------------------------------------------------------------


def in_a_file(source: str, name: str, scope: dict[str, Any]) -> Any:
    """`call` of a source that linecache knows, as IPython gives it the cells of a notebook."""
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    exec(compile(source, name, "exec"), scope)
    return scope["call"]


NOTEBOOK = "def call(x, y):\n    return criterion(x, y)\n"


def test_a_cell_of_a_notebook_is_read() -> None:
    call = in_a_file(NOTEBOOK, "<ipython-input-1-0123456789ab>", {"criterion": criterion})
    assert lines(refusal(call, logits, shares)) == ["criterion(x, y.long())"]


CHANGED = {
    "as it was": (NOTEBOOK, "criterion(x, y.long())"),
    "a line before": (f"import torch\n{NOTEBOOK}", "target.long()"),
    "another name": (NOTEBOOK.replace("(x, y)", "(z, y)"), "target.long()"),
    "exchanged": (NOTEBOOK.replace("(x, y)\n", "(y, x)\n"), "target.long()"),
    "no Python": ("def call(x, y:\n    return criterion(x, y)\n", "target.long()"),
    "empty": ("", "target.long()"),
    "another constant": (NOTEBOOK.replace("(x, y)\n", "('', )\n"), "target.long()"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_file_that_has_changed_is_not_read(name: str, tmp_path: Path) -> None:
    source, line = CHANGED[name]
    file = tmp_path / "train.py"
    file.write_text(NOTEBOOK)
    scope: dict[str, Any] = {"criterion": criterion}
    exec(compile(NOTEBOOK, str(file), "exec"), scope)
    file.write_text(source)
    assert lines(refusal(scope["call"], logits, shares)) == [line]
    file.unlink()
    linecache.clearcache()
    assert lines(refusal(scope["call"], logits, shares)) == ["target.long()"]


def test_a_private_name_is_the_same_name() -> None:
    source = """
        class Trainer:
            def __init__(self, loss):
                self.__loss = loss
            def call(self, x, y):
                return self.__loss(x, y)
        def call(x, y):
            return Trainer(criterion).call(x, y)
    """
    scope = {"criterion": criterion}
    call = in_a_file(textwrap.dedent(source), "private.py", scope)
    assert lines(refusal(call, logits, shares)) == ["self.__loss(x, y.long())"]


PROGRAM = """
import safeloss, torch
logits, shares = torch.randn(8, 3), torch.zeros(8)
try:
    safeloss.SafeCrossEntropyLoss()(logits, shares)
except safeloss.SafeLossError as error:
    print(str(error).splitlines()[-1])
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["-X", "no_debug_ranges"]])
def test_without_positions_there_are_the_names_of_the_parameters(
    options: list[str], tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(PROGRAM)
    run = subprocess.run(
        [sys.executable, *options, str(script)],
        capture_output=True, text=True, check=True, cwd=Path(safeloss.__file__).parents[1],
        env={"PYTHONPATH": str(Path(safeloss.__file__).parents[1])},
    )  # fmt: skip
    own = "Fix: safeloss.SafeCrossEntropyLoss()(logits, shares.long())\n"
    assert run.stdout == ("Fix: target.long()\n" if options else own)


# Libraries ---------------------------------------------------------------------------------------

LIBRARY = """
class Trainer:
    def __init__(self, loss_fn):
        self.loss_fn = loss_fn

    def fit(self, x, y):
        return self._step(x, y)

    def _step(self, x, y):
        return self.loss_fn(x, y)
"""


@pytest.mark.parametrize(
    ("file", "library"),
    [("net.py", "lightning_like"), ("loops/fit.py", "lightning_like"), ("../mini.py", "mini")],
)
def test_a_library_that_calls_keeps_the_names_and_tells_the_users_line(
    file: str, library: str, tmp_path: Path
) -> None:
    installed = tmp_path / "lib" / "site-packages" / "lightning_like" / file
    scope: dict[str, Any] = {}
    name = str(installed.resolve())
    linecache.cache[name] = (1, None, LIBRARY.splitlines(True), name)
    exec(compile(LIBRARY, name, "exec"), scope)
    trainer = scope["Trainer"](loss_fn=criterion)
    error = refusal(lambda: trainer.fit(logits, shares))
    assert lines(error) == ["target.long()"]
    assert error.expressions == {}
    (told,) = [line for line in str(error).splitlines() if line.startswith(library)]
    assert told.startswith(f"{library} called this loss, and your line is ")
    assert "test_call_site.py:" in told
    assert told.endswith("error = refusal(lambda: trainer.fit(logits, shares))")


def test_a_library_alone_has_no_line_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_site, "is_users", lambda filename: False)
    monkeypatch.setattr(call_site, "_is_in_library", lambda filename: True)
    monkeypatch.setattr(call_site, "_LIBRARIES", ("tests",))
    error = refusal(lambda: criterion(logits, shares))
    assert error.called_by == "test_call_site called this loss."


# Where nothing of it runs ------------------------------------------------------------------------


def test_nothing_is_read_before_a_call_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Any] = []
    monkeypatch.setattr(call_site, "written_call", lambda frame: reads.append(frame))
    loss = SafeCrossEntropyLoss()
    for size in (B, B, 5, 1):
        loss(torch.randn(size, C), torch.zeros(size).long())
    assert reads == []
    refusal(lambda: loss(logits, shares))
    assert len(reads) == 1


@pytest.mark.slow
@pytest.mark.parametrize("fullgraph", [True, False])
def test_compiled_code_keeps_the_names_of_the_parameters(fullgraph: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, y: criterion(x, y), backend="eager", fullgraph=fullgraph)
    with pytest.raises(Exception, match=r"\[SL123\] SafeCrossEntropyLoss: `target`") as caught:
        compiled(logits, shares)
    assert "shares" not in str(caught.value)


def test_no_frame_and_no_tensor_is_kept() -> None:
    def call() -> Any:
        mine = torch.arange(B) % 2.0
        error = refusal(lambda: criterion(logits, mine))
        assert lines(error) == ["criterion(logits, mine.long())"]
        return error

    error = call()
    assert not any(isinstance(value, torch.Tensor) for value in vars(error).values())
    assert pickle.loads(pickle.dumps(error)).calls == error.calls


def test_a_tree_that_another_thread_has_disturbed_is_made_again(monkeypatch) -> None:
    """Python 3.11 then raises a SystemError: https://github.com/python/cpython/issues/106905."""
    outcomes, made = [SystemError("depth mismatch"), SystemError("depth mismatch")], ast.parse

    def disturbed(*arguments: Any, **options: Any) -> ast.AST:
        if outcomes:
            raise outcomes.pop()
        return made(*arguments, **options)

    monkeypatch.setattr(ast, "parse", disturbed)
    assert lines(refusal(lambda: criterion(logits, shares))) == ["criterion(logits, shares.long())"]
    assert not outcomes
