"""What is no call of a loss gets an error of ours that says what is wrong, in plain words."""

import re
import sys
import traceback
import warnings
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lines import new_line
from losses import LOSSES, Loss
from torch import nn

import safeloss
from safeloss import functional as SF
from safeloss._contract.options import AT_CALL

pytestmark = pytest.mark.filterwarnings("ignore")


def refused(f: Any, *args: Any, **kwargs: Any) -> safeloss.SafeLossError:
    with pytest.raises(safeloss.SafeLossError) as caught:
        new_line()(f, *args, **kwargs)
    return caught.value


def prose(error: safeloss.SafeLossError) -> str:
    """The message without its table and its fixes."""
    lines = [line for line in str(error).splitlines() if not line.startswith(("    ", "Fix"))]
    return re.sub(r"\[[\d, ]*\]", "", "\n".join(lines))


# The constructor ----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("batch", [1, 8])
def test_the_data_is_given_to_the_constructor(loss: Loss, batch: int) -> None:
    error = refused(loss.safe, *loss.batch(batch)[:2])
    assert isinstance(error, safeloss.ArgumentTypeError)
    assert "Make the loss first" in str(error)
    forward: Any = loss.safe.forward
    inputs = ", ".join(name for name in forward.inputs if name not in AT_CALL)
    assert error.fixes == (f"{loss.safe.__name__}()({inputs})",)


def test_the_data_is_given_to_the_constructor_by_name() -> None:
    error = refused(safeloss.SafeMSELoss, input=torch.zeros(3), target=torch.zeros(3))
    assert "Make the loss first" in str(error)


def test_options_that_are_tensors_are_no_data() -> None:
    safeloss.SafeTripletMarginLoss(torch.tensor(1.0), torch.tensor(2.0))
    safeloss.SafeCrossEntropyLoss(torch.ones(3))
    safeloss.SafeBCEWithLogitsLoss(torch.ones(3), None, None, "mean", torch.ones(3))


# The order ----------------------------------------------------------------------------------------


def test_what_is_said_of_swapped_arguments() -> None:
    x, y = torch.randn(8, 3, requires_grad=True), torch.randint(0, 3, (8,))
    error = refused(safeloss.SafeCrossEntropyLoss(), y, x)
    assert isinstance(error, safeloss.DTypeError)
    assert "wrong order" in str(error)
    assert error.fixes == ("SafeCrossEntropyLoss()(target, input)",)


def test_swapped_probabilities_are_refused_though_their_values_are_fine() -> None:
    p, y = torch.rand(8, requires_grad=True), (torch.arange(8) % 2).float()
    F.binary_cross_entropy(y, p)
    error = refused(safeloss.SafeBCELoss(reduction="sum"), y, p)
    assert isinstance(error, safeloss.ValueRangeError)
    assert "wrong order" in str(error)
    assert error.fixes == ("SafeBCELoss(reduction='sum')(target, input)",)


def test_an_order_is_judged_where_values_are_read() -> None:
    p, y = torch.rand(8, requires_grad=True), (torch.arange(8) % 2).float()
    assert safeloss.SafeBCELoss(check_values="never")(y, p).isfinite()
    with torch.no_grad():
        q = p.clone()
    assert safeloss.SafeBCELoss()(y, q).isfinite()  # nothing tells which are the labels


# What is no tensor --------------------------------------------------------------------------------


def test_several_outputs_give_no_foreign_warning() -> None:
    outputs = nn.LSTM(4, 6, batch_first=True)(torch.randn(2, 5, 4))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        error = refused(safeloss.SafeMSELoss(), outputs, torch.randn(2, 5, 6))
    assert isinstance(error, safeloss.ArgumentTypeError)
    assert error.fixes == ("input[0]",)
    assert not caught


def test_each_output_that_fits_is_offered() -> None:
    x, y = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4))
    loss = safeloss.SafeCrossEntropyLoss()
    assert refused(loss, (x, x, x[:, :2, 0, 0]), y).fixes == ("input[0]", "input[1]")
    outputs = OrderedDict(out=x, aux=x, features=x[0])
    error = refused(loss, outputs, y)
    assert error.fixes == ("input['out']", "input['aux']")
    assert "'features'" in str(error)
    pair = namedtuple("pair", ["logits", "hidden"])
    assert refused(loss, pair(x, None), y).fixes == ("input.logits",)


def test_a_list_of_targets_is_a_batch() -> None:
    x = torch.randn(3, 2)
    error = refused(safeloss.SafeMSELoss(), x, [torch.randn(2) for _ in range(3)])
    assert error.fixes == ("torch.stack(target)",)
    error = refused(safeloss.SafeCrossEntropyLoss(), x, [torch.tensor(1) for _ in range(3)])
    assert error.fixes == ("torch.stack(target)",)


def test_a_model_for_its_output() -> None:
    assert "pass what it returns" in str(
        refused(safeloss.SafeMSELoss(), nn.Linear(2, 1), torch.zeros(2))
    )


def test_ctc_lengths_that_are_one_number() -> None:
    scores, targets = torch.randn(12, 3, 6).log_softmax(-1), torch.randint(1, 6, (3, 4))
    error = refused(safeloss.SafeCTCLoss(), scores, targets, 12, 4)
    assert "needs one length for each sample" in str(error)
    (fix,) = error.fixes
    names = {"log_probs": scores, "targets": targets, "input_lengths": 12, "target_lengths": 4}
    value = eval(fix, {"SafeCTCLoss": safeloss.SafeCTCLoss, **names})
    assert torch.equal(value, nn.CTCLoss()(scores, targets, [12] * 3, [4] * 3))
    (fix,) = refused(safeloss.SafeCTCLoss(), scores, targets, 12, [4] * 3).fixes
    assert eval(fix, names) == [12] * 3


def test_lists_of_tensors_are_lengths() -> None:
    scores, targets = torch.randn(12, 3, 6).log_softmax(-1), torch.randint(1, 6, (3, 4))
    lists = [torch.tensor(12)] * 3, [torch.tensor(4)] * 3
    wanted = nn.CTCLoss()(scores, targets, *lists)
    assert torch.equal(new_line()(safeloss.SafeCTCLoss(), scores, targets, *lists), wanted)


# Dtypes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("kind", ["quantized", "complex"])
def test_odd_inputs_are_refused_in_words_of_ours(loss: Loss, kind: str) -> None:
    """Or PyTorch computes them."""
    inputs = loss.batch(4)
    first = inputs[0].detach()
    if kind == "quantized":
        inputs[0] = torch.quantize_per_tensor(first, 0.1, 0, torch.quint8)
    else:
        inputs[0] = torch.complex(first, first)
    native = loss.native(**loss.options)
    try:
        expected = native(*inputs)
    except Exception:  # whatever it raises
        error = refused(loss.safe(**loss.options), *inputs)
        assert str(inputs[0].dtype).removeprefix("torch.") in error.rule
        assert isinstance(error, safeloss.DTypeError)
        if kind == "quantized":
            assert error.fixes == (f"{loss.safe.forward.inputs[0]}.dequantize()",)  # type: ignore[attr-defined]
    else:
        try:
            ours = new_line()(loss.safe(**loss.options), *inputs)
        except safeloss.DTypeError:
            return  # this loss makes no sense of complex numbers, which it says
        assert torch.equal(ours, expected)


def test_predicted_classes_for_scores() -> None:
    labels = torch.zeros(8).long()
    for predicted in (torch.randn(8, 3).argmax(1), torch.randn(8, 3).argmax(1).float() + 1):
        error = refused(safeloss.SafeCrossEntropyLoss(), predicted, labels)
        assert "score" in prose(error)
        assert "argmax" in prose(error)
        assert not error.fixes


def test_an_ignore_index_past_every_integer() -> None:
    x, y = torch.randn(2, 3), torch.tensor([0, 1])
    error = refused(SF.cross_entropy, x, y, ignore_index=2**70)
    assert isinstance(error, safeloss.OptionError)
    assert "ignore_index" in str(error)
    assert SF.cross_entropy(x, y, ignore_index=-(2**63)).isfinite()


# Facts --------------------------------------------------------------------------------------------

FACTS = [
    # loss, input, target, what is said
    (safeloss.SafeCrossEntropyLoss, (4, 5), torch.zeros(3).long(), "has 4 samples, `target` 3"),
    (safeloss.SafeMSELoss, (4, 5), torch.zeros(3, 5), "has 4 samples, `target` 3"),
    (safeloss.SafeMSELoss, (1, 5), torch.zeros(3, 7), "has 1 sample, `target` 3"),
    (safeloss.SafeMSELoss, (4, 5), torch.zeros(4, 3), "must be [4, 5]; it is [4, 3]"),
    (safeloss.SafeCrossEntropyLoss, (2, 3, 8, 8), torch.zeros(2, 4, 4).long(), "be [2, 8, 8]; it"),
    (safeloss.SafeCrossEntropyLoss, (2, 9, 7), torch.zeros(2, 8).long(), "language model"),
    (safeloss.SafeCrossEntropyLoss, (2, 7, 9), torch.zeros(2, 8).long(), "language model"),
    (safeloss.SafeMSELoss, (4, 784), torch.zeros(4, 1, 28, 27), "it is [4, 1, 28, 27]"),
]


@pytest.mark.parametrize(("loss", "shape", "target", "said"), FACTS)
def test_sizes_that_differ_are_named(loss, shape, target, said) -> None:
    error = refused(loss(), torch.randn(shape), target)
    assert said in str(error)
    assert not error.fixes


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_every_misfit_is_explained(loss: Loss) -> None:
    """Whatever shape or dtype an argument has, an error is ours or PyTorch's, and not about us."""
    for position in range(len(loss.batch(2))):
        for shape in ((), (1,), (0,), (5,), (2, 5), (0, 5), (2, 3, 4), (1, 2, 3, 4), (5, 1)):
            for dtype in (torch.float32, torch.int64, torch.bool):
                inputs = loss.batch(2)
                inputs[position] = torch.ones(shape).to(dtype)
                try:
                    new_line()(loss.safe(**loss.options), *inputs)
                except safeloss.SafeLossError:
                    continue
                except Exception as error:  # PyTorch's
                    with pytest.raises(type(error)):
                        loss.native(**loss.options)(*inputs)


def test_class_weights_for_samples() -> None:
    error = refused(
        safeloss.SafeCrossEntropyLoss(torch.rand(8)), torch.randn(8, 3), torch.zeros(8).long()
    )
    assert "`weight` has 8 numbers, `input` 3 classes and 8 samples" in str(error)
    assert error.fixes == ("SafeCrossEntropyLoss()(input, target, sample_weight=weight)",)


def test_values_that_were_found_are_listed_where_they_are_few() -> None:
    x, y = torch.randn(2, 21, 4, 6), torch.tensor([0, 151, 220]).repeat(16).view(2, 4, 6)
    error = refused(safeloss.SafeCrossEntropyLoss(), x, y)
    assert "There are 21 classes (0 to 20). Not allowed: 151 and 220." in str(error)
    many = torch.arange(48).view(2, 4, 6)
    assert "27 different numbers from 21 to 47" in str(
        refused(safeloss.SafeCrossEntropyLoss(), x, many)
    )


def test_it_is_not_said_that_pytorch_computes_what_it_refuses() -> None:
    x, y = torch.randn(4, 1), torch.tensor([0, 1, 1, 0])
    with pytest.raises(IndexError):
        F.cross_entropy(x, y)
    assert (
        refused(safeloss.SafeCrossEntropyLoss(), x, y).native == "cross_entropy raises IndexError."
    )


def test_pytorch_is_not_asked_twice() -> None:
    """What PyTorch has noticed while it ran is said without another run."""
    calls = []

    class Counted(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            calls.append(func) if func is F.cross_entropy else None
            return func(*args, **(kwargs or {}))

    loss, x = safeloss.SafeCrossEntropyLoss(check_values="never"), torch.randn(4, 3)
    loss(x, torch.zeros(4).long())
    with Counted():
        error = refused(loss, x, torch.full((4,), 7))
    assert len(calls) == 1
    assert error.native == "cross_entropy raises IndexError."


# The traceback ------------------------------------------------------------------------------------

CALLS = {
    "function": lambda: SF.mse_loss(torch.randn(4, 3), torch.randn(4)),
    "module": lambda: safeloss.SafeMSELoss()(torch.randn(4, 3), torch.randn(4)),
    "values": lambda: safeloss.SafeBCELoss()(torch.randn(4) - 5, torch.ones(4)),
    "noticed": lambda: SF.cross_entropy(
        torch.randn(2, 3), torch.tensor([1, 7]), check_values="never"
    ),
    "constructor": lambda: safeloss.SafeMSELoss(reduction="avg"),
    "data": lambda: safeloss.SafeMSELoss(torch.zeros(3), torch.zeros(3)),
    "weight": lambda: safeloss.SafeCrossEntropyLoss([1.0]),
    "align": lambda: safeloss.align(torch.zeros(3), like=torch.zeros(4)),
}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="a bare raise restores the old traceback")
@pytest.mark.parametrize("name", CALLS)
def test_the_traceback_shows_no_frame_of_ours(name: str) -> None:
    ours = str(Path(safeloss.__file__).parent)
    with pytest.raises(safeloss.SafeLossError) as caught:
        CALLS[name]()
    files = [frame.filename for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert not [file for file in files if file.startswith((ours, "<safeloss"))]
    called = name in ("module", "values")  # by PyTorch's own `Module.__call__`
    assert files[-1] == (nn.modules.module.__file__ if called else __file__)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_frames_of_the_user_inside_a_loss_are_shown() -> None:
    def distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return SF.mse_loss(one, other[0])

    x = torch.randn(4, 3)
    with pytest.raises(safeloss.LayoutError) as caught:
        SF.triplet_margin_with_distance_loss(x, x, x, distance_function=distance)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "distance"


# Healthy calls ------------------------------------------------------------------------------------


def test_a_target_with_a_gradient_is_no_swap() -> None:
    p, q = torch.rand(8, requires_grad=True), torch.rand(8, requires_grad=True)
    assert torch.equal(new_line()(safeloss.SafeBCELoss(), p, q), F.binary_cross_entropy(p, q))


def test_an_old_name_of_mean() -> None:
    x, y = torch.randn(4), torch.randn(4)
    wanted = nn.MSELoss(reduction="elementwise_mean")(x, y)
    assert torch.equal(safeloss.SafeMSELoss(reduction="elementwise_mean")(x, y), wanted)


def test_integer_weights() -> None:
    x, y, weight = torch.randn(4, 1), torch.rand(4, 1).round(), torch.tensor([10])
    wanted = nn.BCEWithLogitsLoss(pos_weight=weight)(x, y)
    assert torch.equal(safeloss.SafeBCEWithLogitsLoss(pos_weight=weight)(x, y), wanted)


def test_a_function_reads_its_first_labels_and_no_later_ones() -> None:
    bce, x = SF.binary_cross_entropy_with_logits, torch.randn(6)
    late = torch.tensor([-1.0, 2, 1, -1, 0, 1])
    assert isinstance(refused(bce, x, late), safeloss.ValueRangeError)
    call = new_line()
    call(bce, x, torch.ones(6))
    assert torch.equal(call(bce, x, late), F.binary_cross_entropy_with_logits(x, late))


# Neighbours of what stands above ------------------------------------------------------------------


def test_the_constructor_in_the_users_names() -> None:
    outputs, labels = torch.randn(8, 3), torch.randint(0, 3, (8,))
    with pytest.raises(safeloss.ArgumentTypeError) as caught:
        safeloss.SafeCrossEntropyLoss(outputs, labels, label_smoothing=0.1)
    assert caught.value.fixes == ("SafeCrossEntropyLoss(label_smoothing=0.1)(input, target)",)
    if sys.version_info >= (3, 11):
        line = "Fix: safeloss.SafeCrossEntropyLoss(label_smoothing=0.1)(outputs, labels)"
        assert line in str(caught.value)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="positions of expressions")
def test_a_parameter_that_has_the_name_of_an_option() -> None:
    """`log_input` is the first parameter of the module, and an option of the function."""
    rates, counts = torch.randn(8), -torch.ones(8)
    with pytest.raises(safeloss.ValueRangeError) as caught:
        safeloss.SafePoissonNLLLoss()(rates, counts)
    assert "input  = rates" in str(caught.value)


def test_probabilities_before_their_logarithms() -> None:
    """A divergence of a teacher that comes first; a teacher that learns too is no evidence."""
    p, q = torch.randn(8, 3).softmax(1), torch.randn(8, 3, requires_grad=True).log_softmax(1)
    loss = safeloss.SafeKLDivLoss(reduction="batchmean")
    error = refused(loss, p, q)
    assert error.fixes == ("SafeKLDivLoss(reduction='batchmean')(target, input)",)
    assert error.code == "SL145"
    assert refused(loss, p.clone().requires_grad_(), q).code != "SL145"


@pytest.mark.parametrize("size", [4, 5])
def test_chosen_classes_as_floats(size: int) -> None:
    """`argmax(1).float()` of images: the labels are not to blame."""
    x, y = torch.randn(2, 3, size, 4), torch.randint(0, 3, (2, size, 4))
    error = refused(safeloss.SafeCrossEntropyLoss(), x.argmax(1).float(), y)
    assert "argmax" in str(error)
    assert not error.fixes


def test_complex_scores_do_not_come_out_of_argmax() -> None:
    x = torch.randn(4, 3, dtype=torch.cfloat)
    error = refused(safeloss.SafeCrossEntropyLoss(), x, torch.zeros(4).long())
    assert "complex64" in str(error)
    assert "argmax" not in str(error)


def test_sparse_targets() -> None:
    error = refused(safeloss.SafeMSELoss(), torch.randn(3, 3), torch.eye(3).to_sparse())
    assert "is sparse" in str(error)
    assert error.fixes == ("target.to_dense()",)


@pytest.mark.parametrize("value", [1, 0.0])
def test_one_number_for_all_targets(value: float) -> None:
    """As in adversarial training: all images are real."""
    x = torch.rand(4, 1)
    (fix,) = refused(safeloss.SafeBCELoss(), x, value).fixes
    assert "all numbers of `input` have this target" in fix.when
    target = eval(fix, {"torch": torch, "input": x, "target": value})
    assert torch.equal(
        F.binary_cross_entropy(x, target), nn.BCELoss()(x, torch.full_like(x, value))
    )
    assert not refused(safeloss.SafeCrossEntropyLoss(), torch.randn(4, 3), 0.5).fixes


def test_an_object_with_outputs() -> None:
    class Outputs:
        def __init__(self) -> None:
            self.logits, self.hidden, self.loss = torch.randn(8, 3), torch.randn(8, 2, 2), None

    error = refused(safeloss.SafeCrossEntropyLoss(), Outputs(), torch.zeros(8).long())
    assert error.fixes == ("input.logits",)
    assert "logits, hidden" in prose(error)


def test_class_weights_in_a_dict() -> None:
    error = refused(safeloss.SafeCrossEntropyLoss, weight={0: 1.0, 1: 2.0})
    assert error.fixes == ("torch.as_tensor(list(weight.values()))",)
    assert not refused(safeloss.SafeCrossEntropyLoss, weight={1: 1.0, 0: 2.0}).fixes


@pytest.mark.parametrize(("labels", "kind"), [(("cat", "dog"), "str"), ([{"y": 1}] * 2, "dict")])
def test_labels_that_are_no_numbers(labels: Any, kind: str) -> None:
    error = refused(safeloss.SafeCrossEntropyLoss(), torch.randn(2, 3), labels)
    assert f"`target` holds {kind}" in str(error)


def test_nothing_is_said_of_an_argument_that_fits() -> None:
    """Labels of sequences have a length of their own, which no other argument decides."""
    scores, targets = torch.randn(12, 3, 6).log_softmax(-1), torch.randint(1, 6, (3, 4))
    lengths = torch.full((3,), 12), torch.full((3,), 4)
    loss = safeloss.SafeCTCLoss()
    assert "axes" not in prose(refused(loss, scores, targets.float(), *lengths))
    error = refused(loss, scores, targets, lengths[0][:2], lengths[1])
    assert "`log_probs` has 3 samples, `input_lengths` 2." in str(error)
    assert "axes" not in prose(error)


def test_the_numbers_that_decide_are_said() -> None:
    scores, targets = torch.randn(12, 3, 6).log_softmax(-1), torch.randint(1, 6, (3, 4))
    loss = safeloss.SafeCTCLoss()
    assert "has the size 12" in prose(refused(loss, scores, targets, [24] * 3, [4] * 3))
    assert "room for 4 labels" in prose(refused(loss, scores, targets, [12] * 3, [5] * 3))
    joined = refused(loss, scores, targets.flatten(), [12] * 3, [3] * 3)
    assert "12 labels, the lengths add up to 9" in prose(joined)
    error = refused(loss, scores, targets.clamp(0, 0), [12] * 3, [4] * 3)
    assert "6 classes (0 to 5), and `blank` is 0. Not allowed: 0." in prose(error)


def test_numbers_far_outside_are_not_outside_by_rounding() -> None:
    """The first one that is wrong lies close to the end, and others do not."""
    error = refused(safeloss.SafeBCELoss(), torch.rand(3), torch.tensor([-0.001, -0.9, 0.5]))
    assert "rounding" not in str(error)
    error = refused(safeloss.SafeBCELoss(), torch.rand(3), torch.tensor([-0.001, 0.9, 0.5]))
    assert "rounding" in str(error)
