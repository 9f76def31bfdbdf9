"""The checks: each looks at one file and gives places and messages."""

import ast
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from safeloss._lint.flow import Flow, Loss
from safeloss._source.table import words


class Found(NamedTuple):
    """A place that a rule found, before it has a path."""

    node: ast.expr
    code: str
    message: str


Check = Callable[[Flow], Iterator[Found]]

_ACTIVATIONS = {
    "softmax": "softmax", "Softmax": "softmax", "Softmax2d": "softmax", "softmin": "softmax",
    "sigmoid": "sigmoid", "Sigmoid": "sigmoid", "expit": "sigmoid", "hardsigmoid": "sigmoid",
    "log_softmax": "log-softmax", "LogSoftmax": "log-softmax",
    "logsigmoid": "log-sigmoid", "LogSigmoid": "log-sigmoid",
}  # fmt: skip
_MODULES = (
    "torch",
    "torch.nn",
    "torch.nn.functional",
    "torch.special",
    "torch.nn.modules.activation",
)
_METHODS = ("softmax", "sigmoid", "sigmoid_", "log_softmax")
_OF_LOGITS = ("softmax", "sigmoid", "log-sigmoid")
_WRONG = {
    "cross_entropy": _OF_LOGITS,  # a second log-softmax changes nothing
    "binary_cross_entropy_with_logits": (*_OF_LOGITS, "log-softmax"),
    "multilabel_soft_margin_loss": (*_OF_LOGITS, "log-softmax"),
}
_INSIDE = {"cross_entropy": "softmax"}


def activation(flow: Flow, node: ast.expr) -> str | None:
    """The activation that an expression is, or whose layer it makes."""
    if not isinstance(node, ast.Call):
        return None
    layer = flow.layer(node)
    if layer is not None:
        module, _, name = layer[0].rpartition(".")
        return _ACTIVATIONS.get(name) if module in _MODULES else None
    if isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "self":
            return None
        return _ACTIVATIONS[node.func.attr.rstrip("_")]
    return None


def first_activation(flow: Flow, node: ast.expr | None) -> tuple[ast.expr, str] | None:
    """The activation that a value comes out of, and where it stands."""
    for one in flow.trace(node):
        kind = activation(flow, one)
        if kind:
            return one, kind
    return None


def activations(flow: Flow) -> Iterator[Found]:
    """SL201 and SL202: what a loss does itself was done before, or was not."""
    for loss in flow.losses:
        found = first_activation(flow, loss.argument(0))
        if found and found[1] in _WRONG.get(loss.name, ()):
            inside = _INSIDE.get(loss.name, "sigmoid")
            yield Found(
                found[0],
                "SL201",
                f"this {found[1]} goes into {loss.name} (line {loss.call.lineno}), which has its"
                f" own {inside} inside: give it the logits",
            )
        elif loss.name in ("nll_loss", "kl_div"):
            what = None
            if found and not found[1].startswith("log"):
                what = f"this {found[1]}"
            elif not found:
                linear = _linear(flow, loss.argument(0))
                found = (linear, "scores") if linear is not None else None
                what = "these raw scores"
            if what and found:
                verb = "go" if what.startswith("these") else "goes"
                yield Found(
                    found[0],
                    "SL202",
                    f"{what} {verb} into {loss.name} (line {loss.call.lineno}), which takes"
                    " log-probabilities: use log_softmax",
                )


def _linear(flow: Flow, node: ast.expr | None) -> ast.Call | None:
    """The application of a linear layer that a value comes out of, or its constructor."""
    for one in flow.trace(node):
        layer = flow.layer(one) if isinstance(one, ast.Call) else None
        if (
            layer
            and layer[0] in ("torch.nn.Linear", "torch.nn.LazyLinear")
            and isinstance(one, ast.Call)
        ):
            return one
    return None


# Losses of one score and one target each: squeezed alike, both keep the same shape.
_ELEMENTWISE = words("""
    binary_cross_entropy binary_cross_entropy_with_logits mse_loss l1_loss smooth_l1_loss
    huber_loss poisson_nll_loss gaussian_nll_loss kl_div soft_margin_loss hinge_embedding_loss
""")


def squeezes(flow: Flow) -> Iterator[Found]:
    """SL203."""
    for loss in flow.losses:
        inputs = [(word, loss.argument(index)) for index, word in enumerate(("input", "target"))]
        squeezed = [(word, node) for word, value in inputs if (node := _squeeze(flow, value))]
        if len(squeezed) == 2 and loss.name in _ELEMENTWISE:
            continue
        for word, node in squeezed:
            yield Found(
                node,
                "SL203",
                f"squeeze() without an axis also drops the batch axis of a batch of one, and this"
                f" is the {word} of {loss.name} (line {loss.call.lineno}): name the axis",
            )


def _squeeze(flow: Flow, node: ast.expr | None) -> ast.Call | None:
    for one in flow.trace(node):
        if not isinstance(one, ast.Call):
            continue
        if flow.names.path(one.func) == "torch.squeeze":
            return one if len(one.args) + len(one.keywords) == 1 else None
        if isinstance(one.func, ast.Attribute):
            bare = not one.args and not one.keywords
            if one.func.attr == "squeeze" and bare:
                return one
            if _has_method(one, _RESHAPING):
                return None  # which says the shape
    return None


_RESHAPING = words("""
    view reshape flatten unsqueeze expand squeeze view_as reshape_as expand_as permute
    transpose movedim t T
""")


def _has_method(node: ast.expr, methods: frozenset[str]) -> bool:
    """Whether an expression is a call of one of these methods, or of a function of the name."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in methods
    )


def one_output(flow: Flow) -> Iterator[Found]:
    """SL204."""
    for loss in flow.losses:
        if loss.name != "cross_entropy":
            continue
        linear = _linear(flow, loss.argument(0))
        reshaped = any(_has_method(one, _RESHAPING) for one in flow.trace(loss.argument(0)))
        layer = flow.layer(linear) if linear is not None and not reshaped else None
        if layer and _is_constant(_layer_option(layer[1], 1, "out_features"), 1):
            yield Found(
                layer[1],
                "SL204",
                f"this layer has one output, and cross_entropy (line {loss.call.lineno}) of one"
                " class is always 0: use binary_cross_entropy_with_logits",
            )


def _layer_option(call: ast.Call, index: int, name: str) -> ast.expr | None:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value
    return call.args[index] if index < len(call.args) else None


def _is_constant(node: ast.expr | None, value: object) -> bool:
    return (
        isinstance(node, ast.Constant) and type(node.value) is type(value) and node.value == value
    )


def kl_means(flow: Flow) -> Iterator[Found]:
    """SL205: where the loss is made, called or not."""
    for loss in flow.options:
        if loss.name != "kl_div" or not loss.is_plain:
            continue
        if _is_mean(loss):
            yield Found(
                loss.call,
                "SL205",
                'reduction="mean" divides by the classes too, which is not the divergence: say'
                ' reduction="batchmean"',
            )


def softmax_axes(flow: Flow) -> Iterator[Found]:
    """SL206."""
    layers = ("Softmax", "LogSoftmax", "Softmin")
    functions = ("softmax", "log_softmax", "softmin")
    for call in flow.names.calls:
        module, _, name = (flow.names.path(call.func) or "").rpartition(".")
        is_layer = module == "torch.nn" and name in layers
        is_function = module == "torch.nn.functional" and name in functions
        named = [keyword.arg for keyword in call.keywords]
        starred = None in named or any(isinstance(one, ast.Starred) for one in call.args)
        given = _layer_option(call, 0 if is_layer else 1, "dim")
        if (
            (is_layer or is_function)
            and not starred
            and (given is None or _is_constant(given, None))
        ):
            yield Found(call, "SL206", f"{name} without dim guesses its axis: say dim=1 or dim=-1")


_TENSORS = ("tensor", "Tensor", "FloatTensor", "as_tensor", "ones", "zeros", "from_numpy", "full")
_GLOBAL_DEVICE = ("torch.set_default_device", "torch.set_default_tensor_type")


def weight_devices(flow: Flow) -> Iterator[Found]:
    """SL207: only in a file that moves something to a device."""
    moves = [c for c in flow.names.calls if isinstance(c.func, ast.Attribute) and _moves(c)]
    if not moves or any(flow.names.path(c.func) in _GLOBAL_DEVICE for c in flow.names.calls):
        return
    moved = {
        flow.constructor(move.func.value) for move in moves if isinstance(move.func, ast.Attribute)
    }
    for loss in flow.options:
        for option in ("weight", "pos_weight"):
            made = _cpu_tensor(flow, loss.option(option))
            if made is None or (loss.constructor in moved and loss.constructor is not None):
                continue
            if loss.constructor and _is_part_of_a_module(flow, loss.constructor):
                continue
            yield Found(
                made,
                "SL207",
                f"these weights of {loss.name} stay on the CPU, and this file moves other tensors:"
                " move the loss or the weights too",
            )


def _moves(call: ast.Call) -> bool:
    assert isinstance(call.func, ast.Attribute)
    if call.func.attr == "cuda":
        return True
    return call.func.attr == "to" and any(
        "device" in ast.unparse(argument) or "cuda" in ast.unparse(argument)
        for argument in [*call.args, *(keyword.value for keyword in call.keywords)]
    )


def _cpu_tensor(flow: Flow, node: ast.expr | None) -> ast.Call | None:
    """The call that made a tensor on the CPU, if it was not moved since."""
    for one in flow.trace(node):
        if not isinstance(one, ast.Call):
            continue
        if isinstance(one.func, ast.Attribute) and one.func.attr in ("to", "cuda", "type_as"):
            return None
        module, _, name = (flow.names.path(one.func) or "").rpartition(".")
        if module == "torch" and name in _TENSORS:
            placed = any(keyword.arg in ("device", None) for keyword in one.keywords)
            return None if placed else one
    return None


def _is_part_of_a_module(flow: Flow, constructor: ast.Call) -> bool:
    statement = flow.statement(constructor)
    return isinstance(statement, ast.Assign) and any(
        isinstance(target, ast.Attribute) for target in statement.targets
    )


# Words that names of predictions and of targets are made of.
_PREDICTION = words("""
    logit logits output outputs out pred preds prediction predictions predicted score scores
    hat yhat ypred probs
""")  # fmt: skip
_TARGET = words("""
    target targets label labels gt truth groundtruth ytrue tgt
""")
# Losses that are not the same the other way round.
_ORDERED = words("""
    binary_cross_entropy binary_cross_entropy_with_logits cross_entropy nll_loss
    poisson_nll_loss gaussian_nll_loss multi_margin_loss multilabel_margin_loss
    multilabel_soft_margin_loss soft_margin_loss
""")


def role(node: ast.expr | None) -> str:
    """ "prediction" or "target", by the words of a name alone; "" if they do not tell."""
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        node = node.func.value  # labels.float()
    if isinstance(node, ast.Name):
        name = node.id
    elif isinstance(node, ast.Attribute):
        name = node.attr
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        if not isinstance(node.slice.value, str):
            return role(node.value)
        name = node.slice.value
    else:
        return ""
    parts = set(re.findall(r"[a-z]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()))
    prediction, target = bool(parts & _PREDICTION), bool(parts & _TARGET or name == "y_true")
    if prediction == target:
        return ""
    return "prediction" if prediction else "target"


def orders(flow: Flow) -> Iterator[Found]:
    """SL208: but not where both are parameters, since those are called what the caller thinks."""
    for loss in flow.losses:
        if loss.name not in _ORDERED or not loss.is_plain:
            continue
        first, second = loss.argument(0), loss.argument(1)
        if flow.is_parameter(first) and flow.is_parameter(second):
            continue
        if role(first) == "target" and role(second) == "prediction":
            assert first is not None
            assert second is not None
            yield Found(
                loss.call,
                "SL208",
                f"{loss.name} takes the prediction first: give it `{ast.unparse(second)}`, then"
                f" `{ast.unparse(first)}`",
            )


_MICRO = re.compile(r"accum|micro_?batch", re.IGNORECASE)


def means_of_means(flow: Flow) -> Iterator[Found]:
    """SL209."""
    for node in flow.names.parents:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            divided, by = node.left, node.right
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div):
            if not isinstance(node.target, ast.Name):
                continue
            divided, by = node.target, node.value
        else:
            continue
        if not _MICRO.search(ast.unparse(by)):
            continue
        for loss in _losses_of(flow, divided):
            if loss.is_plain and _is_mean(loss) and loss.option("ignore_index") is not None:
                yield Found(
                    loss.call,
                    "SL209",
                    f"this mean leaves out what is ignored, and line {node.lineno} divides by the"
                    ' micro-batches: use reduction="sum" and divide by all targets',
                )


def _losses_of(flow: Flow, node: ast.expr) -> list[Loss]:
    """The loss that an expression is, through names."""
    if isinstance(node, ast.Name) and node in flow.names.scopes:
        value = flow.value(node)
        return _losses_of(flow, value) if value is not None and value is not node else []
    return [loss for loss in flow.losses if loss.call is node]


def _is_mean(loss: Loss) -> bool:
    reduction = loss.option("reduction")
    legacy = loss.option("size_average") or loss.option("reduce")
    return legacy is None and (reduction is None or _is_constant(reduction, "mean"))


def masks(flow: Flow) -> Iterator[Found]:
    """SL210."""
    for call in flow.names.calls:
        if isinstance(call.func, ast.Attribute) and call.func.attr == "mean" and not call.args:
            product = call.func.value
        elif flow.names.path(call.func) == "torch.mean" and len(call.args) == 1:
            product = call.args[0]
        else:
            continue
        if call.keywords:
            continue
        for one in flow.trace(product):
            if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Mult):
                for each, mask in ((one.left, one.right), (one.right, one.left)):
                    if _is_mask(mask) and any(
                        _is_constant(loss.option("reduction"), "none")
                        for value in flow.trace(each)
                        for loss in _losses_of(flow, value)
                    ):
                        yield Found(
                            call,
                            "SL210",
                            f"mean() also counts what the mask leaves out: divide the sum by"
                            f" {ast.unparse(mask)}.sum(), or give a safe loss mask=...",
                        )


def _is_mask(node: ast.expr) -> bool:
    while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        node = node.func.value
    while isinstance(node, ast.Subscript):
        if isinstance(node.slice, ast.Constant) and "mask" in str(node.slice.value):
            return True
        node = node.value
    name = node.id if isinstance(node, ast.Name) else getattr(node, "attr", "")
    return "mask" in name.lower().split("_")


# What says in a function that the shapes were compared.
_COMPARED = re.compile(r"(?:shape|size\(\)) (?:==|!=)|same_shape|torch\._assert")


def by_hand(flow: Flow) -> Iterator[Found]:
    """SL211: in a function that does not compare shapes."""
    for call in flow.names.calls:
        inner = _reduced(flow, call)
        difference = _difference(flow, inner) if inner is not None else None
        if difference is None or _COMPARED.search(ast.unparse(flow.function(call))):
            continue
        left, right = difference.left, difference.right
        if {role(left), role(right)} == {"prediction", "target"}:
            first, second = (left, right) if role(left) == "prediction" else (right, left)
            yield Found(
                difference,
                "SL211",
                "[batch, 1] minus [batch] is [batch, batch], without a word: use"
                f" safeloss.functional.mse_loss or l1_loss({ast.unparse(first)},"
                f" {ast.unparse(second)}), or safeloss.align",
            )


def _reduced(flow: Flow, call: ast.Call) -> ast.expr | None:
    """What a mean or a sum is over, if it is over everything."""
    if flow.names.path(call.func) in ("torch.mean", "torch.sum"):
        return call.args[0] if len(call.args) == 1 and not call.keywords else None
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("mean", "sum"):
        return None
    is_plain = flow.names.path(call.func) is None and not call.args and not call.keywords
    return call.func.value if is_plain else None


def _difference(flow: Flow, node: ast.expr) -> ast.BinOp | None:
    """The difference that is squared, or of which the absolute value is taken."""
    for one in flow.trace(node):
        inner: ast.expr | None = None
        if isinstance(one, ast.BinOp) and isinstance(one.op, ast.Pow):
            inner = one.left if _is_constant(one.right, 2) else None
        elif isinstance(one, ast.Call):
            path = flow.names.path(one.func)
            if path in ("torch.square", "torch.abs", "torch.pow") and one.args:
                inner = one.args[0]
            elif path is None and isinstance(one.func, ast.Attribute):
                inner = one.func.value if one.func.attr in ("square", "abs", "pow") else None
        for value in flow.trace(inner):
            if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Sub):
                return value
    return None


CHECKS: tuple[Check, ...] = (
    activations,
    squeezes,
    one_output,
    kl_means,
    softmax_axes,
    weight_devices,
    orders,
    means_of_means,
    masks,
    by_hand,
)
