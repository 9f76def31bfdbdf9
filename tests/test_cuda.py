"""The laws that depend on a device, on a GPU where there is one: `python -m pytest tests -m cuda`.

The same bodies run on the CPU, which shows that they work, and for some that they can fail.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from losses import LOSSES, Loss, run, same, several
from torch import Tensor, nn

import safeloss
from benchmarks.cuda.device import CUDA, REHEARSAL, Device
from benchmarks.cuda.measures import synchronisations_of

on_a_gpu = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
on_devices = pytest.mark.parametrize(
    "device", [REHEARSAL, pytest.param(CUDA, marks=on_a_gpu)], ids=str
)
over_losses = pytest.mark.parametrize("loss", LOSSES, ids=str)
# What PyTorch reads on the host: the variance, the lengths, the classes that occur.
READ_BY_NATIVE = (nn.GaussianNLLLoss, nn.CTCLoss, nn.AdaptiveLogSoftmaxWithLoss)
captured = [loss for loss in LOSSES if loss.native not in READ_BY_NATIVE]

pytestmark = pytest.mark.filterwarnings(
    "ignore:Synchronization debug mode is a prototype",
    "ignore:called a synchronizing CUDA operation",
)


def modules(
    loss: Loss, device: Device, dtype: torch.dtype = torch.float32, **options: object
) -> tuple[nn.Module, nn.Module]:
    """The safe module and the native one, with the same parameters."""
    native = loss.native(**loss.options).to(device.name, dtype)
    safe = loss.safe(**loss.options, **options).to(device.name, dtype)
    safe.load_state_dict(native.state_dict())
    return safe, native


def batch(
    loss: Loss, device: Device, dtype: torch.dtype = torch.float32, samples: int = 64
) -> list[Tensor]:
    """Inputs that PyTorch accepts, enough of them to be judged at a first call."""
    inputs = [x.to(device.name) for x in loss.batch(samples)]
    return [x.to(dtype) if x.is_floating_point() else x for x in inputs]


def loosened(loss: Loss, inputs: list[Tensor]) -> list[Tensor]:
    """The same inputs, with an axis of size 1 left out of the targets or put into them."""
    return [
        (x.squeeze(-1) if x.shape[-1] == 1 else x.unsqueeze(1)) if 0 < place < loss.loose else x
        for place, x in enumerate(inputs)
    ]


def refused(module: Callable[..., Tensor], inputs: list[Tensor], loss: Loss) -> RuntimeError | None:
    """What PyTorch raises of a dtype or a mode in which it does not compute this loss, if it does.

    Of such errors none is ours.
    """
    try:
        run(module, inputs, loss.differentiable)
    except RuntimeError as error:  # among them NotImplementedError
        return error
    return None


def check_equal(
    loss: Loss, safe: Callable[..., Tensor], native: Callable[..., Tensor], inputs: list[Tensor]
) -> None:
    """Bit for bit where PyTorch itself repeats its bits; some of its kernels add in any order.

    Those that add in half precision differ from run to run by more than `assert_close` allows.
    """
    expected = run(native, inputs, loss.differentiable)
    again = [run(native, inputs, loss.differentiable) for _ in range(8)]
    repeats = all(same(other, expected) for other in again)
    spread = [max(distance(other[i], x) for other in again) for i, x in enumerate(expected)]
    for given in (inputs, loosened(loss, inputs)):
        for _ in range(2):  # the second call is a hit
            found = run(safe, given, loss.differentiable)
            found = [x.reshape(e.shape) for x, e in zip(found, expected, strict=True)]
            if repeats:
                assert same(found, expected)
            else:
                for ours, theirs, apart in zip(found, expected, spread):
                    rtol = 8 * torch.finfo(theirs.dtype).eps
                    torch.testing.assert_close(
                        ours, theirs, rtol=rtol, atol=3 * apart, equal_nan=True
                    )


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().nan_to_num().max()) if one.numel() else 0.0


@on_devices
@over_losses
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_equal_to_native(loss: Loss, device: Device, dtype: torch.dtype) -> None:
    safe, native = modules(loss, device, dtype, check_values="never")
    inputs = batch(loss, device, dtype)
    if (error := refused(native, inputs, loss)) is None:
        check_equal(loss, safe, native, inputs)
    else:
        assert type(refused(safe, inputs, loss)) is type(error)


@on_devices
@over_losses
def test_equal_to_native_under_autocast(loss: Loss, device: Device) -> None:
    safe, native = modules(loss, device, check_values="never")

    def inside(module: nn.Module, *inputs: Tensor) -> Tensor:
        with torch.autocast(device.name, torch.bfloat16):
            return module(*inputs)

    inputs = batch(loss, device)
    inputs[0] = inputs[0].bfloat16()
    ours, theirs = partial(inside, safe), partial(inside, native)
    if (error := refused(theirs, inputs, loss)) is None:
        check_equal(loss, ours, theirs, inputs)
    else:
        assert type(refused(ours, inputs, loss)) is type(error)


@on_devices
@over_losses
def test_deterministic_where_native_is(loss: Loss, device: Device) -> None:
    safe, native = modules(loss, device, check_values="never")
    inputs = batch(loss, device)
    torch.use_deterministic_algorithms(True)
    try:
        if (error := refused(native, inputs, loss)) is None:
            expected = run(native, inputs, loss.differentiable)
            for _ in range(2):
                assert same(run(safe, inputs, loss.differentiable), expected)
        else:
            assert str(refused(safe, inputs, loss)) == str(error)
    finally:
        torch.use_deterministic_algorithms(False)


def waits(device: Device, module: Callable[..., Tensor], inputs: list[Tensor]) -> int:
    return synchronisations_of(device, lambda: module(*inputs))


@on_devices
@over_losses
def test_values_are_read_once(loss: Loss, device: Device) -> None:
    """Only the first call waits for the device more often than PyTorch's does."""
    safe, native = modules(loss, device)
    inputs = batch(loss, device)
    of_native = waits(device, native, inputs)
    assert waits(device, safe, inputs) > of_native
    assert waits(device, safe, inputs) == of_native
    assert waits(device, safe, batch(loss, device, samples=65)) == waits(
        device, native, batch(loss, device, samples=65)
    )
    if loss in captured and not device.rehearsal:  # on a CPU, PyTorch reads more
        assert of_native == 0


@on_devices
@over_losses
def test_values_are_never_read(loss: Loss, device: Device) -> None:
    safe, native = modules(loss, device, check_values="never")
    inputs = batch(loss, device)
    of_native = waits(device, native, inputs)
    for given in (inputs, inputs, loosened(loss, inputs), loosened(loss, inputs)):
        assert waits(device, safe, given) == of_native


@on_devices
@over_losses
def test_weights_masks_and_counts_are_not_read(loss: Loss, device: Device) -> None:
    if loss.native is nn.AdaptiveLogSoftmaxWithLoss:
        pytest.skip("it takes none of them")
    safe, native = modules(loss, device, check_values="never")
    inputs = batch(loss, device)
    weight = torch.rand(64, device=device.name)
    forms = [{"sample_weight": weight}, {"mask": weight < 0.8}]
    if loss.options.get("reduction") != "batchmean":
        forms.append({"denominator": weight.sum()})
    for given in forms:
        for _ in range(2):  # new, and known
            assert waits(device, partial(safe, **given), inputs) <= waits(device, native, inputs)


@on_devices
@over_losses
def test_values_are_read_in_every_call_that_asks_for_it(loss: Loss, device: Device) -> None:
    safe, native = modules(loss, device, check_values="always")
    inputs = batch(loss, device)
    of_native = waits(device, native, inputs)
    for _ in range(3):
        assert waits(device, safe, inputs) > of_native


@on_devices
@pytest.mark.parametrize("module", [safeloss.SafeCrossEntropyLoss, safeloss.SafeNLLLoss])
def test_an_index_past_the_classes_is_refused_before_the_device_fails(
    module: type[nn.Module], device: Device
) -> None:
    """PyTorch's kernel ends in an assertion on the device, after which no call works any more."""
    x = torch.randn(6, 3, device=device.name).log_softmax(1)
    target = torch.tensor([0, 1, 2, 3, 0, 1], device=device.name)
    with pytest.raises(safeloss.ValueRangeError, match="class indices"):
        module()(x, target)
    device.gpu.synchronize()
    assert module()(x, target % 3).isfinite()


@on_devices
@over_losses
def test_tensors_on_two_devices_are_refused_by_name(loss: Loss, device: Device) -> None:
    if loss.native is nn.CTCLoss:
        pytest.skip("PyTorch takes labels and lengths on the CPU")
    if device.rehearsal and loss.native is nn.AdaptiveLogSoftmaxWithLoss:
        pytest.skip("the other device of a rehearsal has no numbers, and PyTorch reads them")
    safe, _ = modules(loss, device, check_values="never")
    x, *others = batch(loss, device)
    elsewhere = [other.to("meta" if device.rehearsal else "cpu") for other in others]
    with pytest.raises(safeloss.DeviceError) as caught:
        safe(x, *elsewhere)
    assert f"on {x.device}" in str(caught.value)
    assert f"on {elsewhere[0].device}" in str(caught.value)
    assert any(".to(" in fix for fix in caught.value.fixes)


@on_devices
def test_labels_and_lengths_of_a_ctc_loss_may_stay_on_the_host(device: Device) -> None:
    (loss,) = [loss for loss in LOSSES if loss.native is nn.CTCLoss]
    safe, native = modules(loss, device)
    log_probs, *others = batch(loss, device)
    on_the_host = [other.cpu() for other in others]
    expected = native(log_probs, *on_the_host)
    torch.testing.assert_close(safe(log_probs, *on_the_host), expected)
    torch.testing.assert_close(safe(log_probs, *on_the_host), expected)


@on_devices
@pytest.mark.parametrize("name", ["weight", "pos_weight"])
def test_a_weight_of_rank_0_may_stay_on_the_host(name: str, device: Device) -> None:
    options = {name: torch.tensor(3.0)}
    x, y = torch.randn(6, 3, device=device.name), torch.rand(6, 3, device=device.name)
    safe, native = safeloss.SafeBCEWithLogitsLoss(**options), nn.BCEWithLogitsLoss(**options)
    for given in (y, y, y.unsqueeze(1), y.unsqueeze(1)):
        assert torch.equal(safe(x, given), native(x, y))


@on_devices
@over_losses
def test_a_call_runs_on_the_current_stream(loss: Loss, device: Device) -> None:
    """Its inputs are made on that stream, a while after the call: on another it would not wait."""
    gpu, inputs = device.gpu, batch(loss, device)
    safe, native = modules(loss, device, check_values="never")
    expected = run(native, inputs, loss.differentiable)
    side = gpu.Stream()
    side.wait_stream(gpu.current_stream())
    with gpu.stream(side):
        late = [torch.zeros_like(x) for x in inputs]
        for _ in range(2):
            for x in late:
                x.zero_()
            gpu._sleep(10**8)
            for x, value in zip(late, inputs):
                x.copy_(value)
            found = run(safe, late, loss.differentiable)
    gpu.current_stream().wait_stream(side)
    torch.testing.assert_close(found, expected, equal_nan=True)


@contextlib.contextmanager
def beside(device: Device) -> Iterator[None]:
    """A stream of its own, on which a capture is to be warmed up."""
    side = device.gpu.Stream()
    side.wait_stream(device.gpu.current_stream())
    with device.gpu.stream(side):
        yield
    device.gpu.current_stream().wait_stream(side)


@on_devices
@pytest.mark.parametrize("warm", [True, False], ids=["warm", "first call"])
@pytest.mark.parametrize("loss", captured, ids=str)
def test_a_captured_call_computes_on_new_numbers(loss: Loss, device: Device, warm: bool) -> None:
    """Also where the first call of all is captured: its numbers count as read."""
    if device.rehearsal and not warm:
        pytest.skip("on a CPU the numbers of a first call can be read")
    safe, native = modules(loss, device)
    inputs, others = batch(loss, device), batch(loss, device)

    def step(module: nn.Module, x: Tensor, *rest: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()  # a leaf of the stream that the step runs on
        value = several(module(x, *rest))[-1]
        return [value, *torch.autograd.grad(value.sum(), [x])]

    with beside(device):
        for _ in range(3):
            step(safe if warm else native, *inputs)
    graph = device.gpu.CUDAGraph()
    with device.gpu.graph(graph):
        found = step(safe, *inputs)
    with torch.no_grad():
        for x, value in zip(inputs, others):
            x.copy_(value)
    graph.replay()
    device.gpu.synchronize()
    torch.testing.assert_close(found, step(native, *inputs))


@pytest.mark.slow
@on_devices
@pytest.mark.filterwarnings(r"ignore:\s*Online softmax is disabled")  # of the compiler's own choice
@pytest.mark.parametrize("loss", LOSSES[:3], ids=str)
def test_compiled_is_native_compiled(loss: Loss, device: Device) -> None:
    torch._dynamo.reset()
    safe, native = modules(loss, device)
    compiled = [
        torch.compile(module, fullgraph=True, backend=device.backend) for module in (safe, native)
    ]
    inputs = batch(loss, device)
    of_safe, of_native = [run(module, inputs, loss.differentiable) for module in compiled]
    assert same(of_safe, of_native)
