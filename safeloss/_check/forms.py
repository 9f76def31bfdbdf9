"""How a model, a batch and a loss are put together, for the common forms of each."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor, nn

from safeloss._check.batches import fields, tensors

Step: TypeAlias = Callable[[Any, Any], Any]

_TARGETS = ("labels", "label", "targets", "target", "y")  # what loaders call them
_SCORES = ("logits", "out", "output", "prediction_logits", "pred", "scores")  # ... and models


class Form(NamedTuple):
    """A training step, and how a message writes it."""

    words: str
    step: Step
    loss: Any = None  # where the step ends in `loss(outputs, targets)`


def form_of(model: nn.Module, batch: Any, loss: Any, step: Step | None) -> Form:
    """The step that was given, or the one that the forms of the others suggest."""
    if step is not None:
        return Form("step(model, batch)", step)
    if loss is None:
        return _of_a_model(model, batch)
    if isinstance(batch, (tuple, list)) and not hasattr(batch, "_fields"):
        return _of_a_row(model, batch, loss)
    named = dict(fields(batch))
    if named:
        return _of_names(model, named, loss)
    return Form("loss(model(batch), batch)", lambda m, b: _lost(loss, m(b), b), loss)


def _of_a_model(model: nn.Module, batch: Any) -> Form:
    """A model that computes its loss itself."""
    named = dict(fields(batch))
    if named and _binds(model, (), named):
        return Form("model(**batch)", lambda m, b: m(**dict(fields(b))))
    if isinstance(batch, (tuple, list)) and _binds(model, batch, {}):
        return Form("model(*batch)", lambda m, b: m(*b))
    return Form("model(batch)", lambda m, b: m(b))


def _of_a_row(model: nn.Module, batch: Sequence[Any], loss: Any) -> Form:
    """`(input, target)`, or more inputs before it, or more of what the loss takes after it."""
    if len(batch) == 1:
        return Form("loss(model(batch[0]), batch[0])", lambda m, b: _lost(loss, m(b[0]), b[0]))
    first, last = batch[0], len(batch) - 1
    if last == 1 and isinstance(first, (tuple, list)) and not _binds(model, (first,), {}):
        words = "loss(model(*batch[0]), batch[1])"
        return Form(words, lambda m, b: _lost(loss, m(*b[0]), b[1]), loss)
    if last == 1 and isinstance(first, Mapping) and _binds(model, (), first):
        words = "loss(model(**batch[0]), batch[1])"
        return Form(words, lambda m, b: _lost(loss, m(**b[0]), b[1]), loss)
    taken = next((n for n in range(last, 0, -1) if _binds(model, batch[:n], {})), 1)
    inputs = ", ".join(f"batch[{k}]" for k in range(taken))
    rest = ", ".join(f"batch[{k}]" for k in range(taken, last + 1))
    words = f"loss(model({inputs}), {rest})"
    return Form(words, lambda m, b: _lost(loss, m(*b[:taken]), *b[taken:]), loss)


def _of_names(model: nn.Module, named: Mapping[str, Any], loss: Any) -> Form:
    """A batch with names, one of which is that of the target."""
    target = next((name for name in _TARGETS if name in named), list(named)[-1])
    inputs = [name for name in named if name != target]
    known = _parameters(model)
    taken = [name for name in inputs if known is None or name in known]
    if taken and _binds(model, (), {name: named[name] for name in taken}):
        said = ", ".join(f"{name}=batch.{name}" for name in taken)

        def by_name(m: Any, b: Any) -> Any:
            parts = dict(fields(b))
            return _lost(loss, m(**{name: parts[name] for name in taken}), parts[target])

        return Form(f"loss(model({said}), batch.{target})", by_name, loss)

    inputs = [name for name in inputs if tensors(named[name])]
    counts = range(len(inputs), 0, -1)
    taken = inputs[: next((n for n in counts if _binds(model, inputs[:n], {})), 1)]

    def by_place(m: Any, b: Any) -> Any:
        parts = dict(fields(b))
        return _lost(loss, m(*[parts[name] for name in taken]), parts[target])

    said = ", ".join(f"batch.{name}" for name in taken)
    return Form(f"loss(model({said}), batch.{target})", by_place, loss)


def _parameters(model: nn.Module) -> set[str] | None:
    """What `forward` takes by name; None where it takes any name, or cannot be asked."""
    try:
        found = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(each.kind is each.VAR_KEYWORD for each in found):
        return None
    return {each.name for each in found}


def _binds(model: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether `forward` takes so many arguments."""
    try:
        inspect.signature(model.forward).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:  # it has no signature
        return True
    return True


def _lost(loss: Any, outputs: Any, *targets: Any) -> Any:
    """`loss(outputs, *targets)`; where that fails, of the scores that `outputs` consists of."""
    scores = outputs if isinstance(outputs, Tensor) else _scores(outputs)
    if scores is outputs or scores is None:
        return loss(outputs, *targets)
    try:
        return loss(outputs, *targets)
    except (TypeError, AttributeError, KeyError):
        return loss(scores, *targets)


def _scores(outputs: Any) -> Any:
    """The scores in what a model gives beside other values."""
    for name in _SCORES:
        if isinstance(outputs, Mapping):
            if name in outputs:
                return outputs[name]
        elif hasattr(outputs, name):
            return getattr(outputs, name)
    if isinstance(outputs, (tuple, list)) and outputs and isinstance(outputs[0], Tensor):
        return outputs[0]
    return None
