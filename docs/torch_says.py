"""What PyTorch itself says of the mistakes that have a code: titles for the pages of errors.

People search for this text. Each row is held by a test that runs its program on the release that
`constraints.txt` names; the first row of a code gives its page the title.
"""

from typing import NamedTuple


class Said(NamedTuple):
    """A text that PyTorch raises or warns with, and a program that has it do so."""

    code: str
    text: str
    program: str


SAID = (
    Said(
        "SL105",
        "Using a target size (torch.Size([8])) that is different to the input size "
        "(torch.Size([8, 1])). This will likely lead to incorrect results due to broadcasting.",
        "nn.MSELoss()(torch.randn(8, 1), torch.randn(8))",
    ),
    Said(
        "SL105",
        "Using a target size (torch.Size([8])) that is different to the input size "
        "(torch.Size([8, 1])) is deprecated. Please ensure they have the same size.",
        "nn.BCELoss()(torch.rand(8, 1), torch.rand(8))",
    ),
    Said(
        "SL105",
        "Target size (torch.Size([8])) must be the same as input size (torch.Size([8, 1]))",
        "nn.BCEWithLogitsLoss()(torch.randn(8, 1), torch.rand(8))",
    ),
    Said(
        "SL101",
        "The size of tensor a (3) must match the size of tensor b (32) at non-singleton "
        "dimension 1",
        "nn.MSELoss()(torch.randn(32, 3), torch.randn(3, 32))",
    ),
    Said(
        "SL101",
        "Expected input batch_size (32) to match target batch_size (16).",
        "nn.CrossEntropyLoss()(torch.randn(32, 3), torch.zeros(16).long())",
    ),
    Said(
        "SL102",
        "Expected non-empty vector or matrix with optional 0-dim batch size, but got: [8, 5, 10]",
        "nn.MultiMarginLoss()(torch.randn(8, 5, 10), torch.zeros(8, 10).long())",
    ),
    Said(
        "SL104",
        "Expected input batch_size (5) to match target batch_size (1).",
        "nn.CrossEntropyLoss()(torch.randn(1, 5, 10).squeeze(), torch.zeros(1, 10).long())",
    ),
    Said(
        "SL111",
        "Expected target size [4, 5], got [4, 10]",
        "nn.CrossEntropyLoss()(torch.randn(4, 10, 5), torch.zeros(4, 10).long())",
    ),
    Said(
        "SL114",
        "Expected floating point type for target with class probabilities, got Long",
        "nn.CrossEntropyLoss()(torch.randn(8), torch.zeros(8).long())",
    ),
    Said(
        "SL121",
        "Target size (torch.Size([8])) must be the same as input size (torch.Size([8, 3]))",
        "nn.BCEWithLogitsLoss()(torch.randn(8, 3), torch.zeros(8).long())",
    ),
    Said(
        "SL122",
        "Target size (torch.Size([8])) must be the same as input size (torch.Size([8, 2]))",
        "nn.BCEWithLogitsLoss()(torch.randn(8, 2), torch.rand(8))",
    ),
    Said(
        "SL123",
        "expected target dtype to be Long or Byte, but got Float",
        "nn.CrossEntropyLoss()(torch.randn(4, 3), torch.zeros(4))",
    ),
    Said(
        "SL123",
        "0D or 1D target tensor expected, multi-target not supported",
        "nn.CrossEntropyLoss()(torch.randn(4, 3), torch.zeros(4, 1))",
    ),
    Said(
        "SL124",
        "Expected floating point type for target with class probabilities, got Long",
        "nn.CrossEntropyLoss()(torch.randn(4, 3), torch.eye(3)[[0, 2, 1, 1]].long())",
    ),
    Said(
        "SL125",
        "expected target dtype to be Long or Byte, but got Bool",
        "nn.CrossEntropyLoss()(torch.randn(4, 3), torch.ones(4).bool())",
    ),
    Said(
        "SL131",
        "weight tensor should be defined either for all 3 classes or no classes but got weight "
        "tensor of shape: [2]",
        "nn.CrossEntropyLoss(weight=torch.ones(2))(torch.randn(4, 3), torch.zeros(4).long())",
    ),
    Said(
        "SL132",
        "The size of tensor a (8) must match the size of tensor b (3) at non-singleton dimension 3",
        "nn.BCEWithLogitsLoss(weight=torch.ones(3))(*torch.rand(2, 2, 3, 8, 8))",
    ),
    Said(
        "SL141",
        "\"log_softmax_lastdim_kernel_impl\" not implemented for 'Long'",
        "nn.CrossEntropyLoss()(torch.zeros(4, 3).long(), torch.zeros(4).long())",
    ),
    Said(
        "SL142",
        "'list' object has no attribute 'size'",
        "nn.MSELoss()(torch.randn(4), [1.0, 0.0, 0.0, 1.0])",
    ),
    Said(
        "SL142",
        "cross_entropy_loss(): argument 'input' (position 1) must be Tensor, not tuple",
        "nn.CrossEntropyLoss()((torch.randn(4, 3), None), torch.zeros(4).long())",
    ),
    Said("SL144", "avg is not a valid value for reduction", 'nn.MSELoss(reduction="avg")(x, x)'),
    Said(
        "SL145",
        "\"log_softmax_lastdim_kernel_impl\" not implemented for 'Long'",
        "nn.CrossEntropyLoss()(torch.zeros(4).long(), torch.randn(4, 3))",
    ),
    Said(
        "SL146",
        "Boolean value of Tensor with more than one value is ambiguous",
        "nn.MSELoss(torch.randn(4), torch.randn(4))",
    ),
    Said(
        "SL206",
        "Implicit dimension choice for softmax has been deprecated. Change the call to include "
        "dim=X as an argument.",
        "nn.Softmax()(torch.randn(4, 3))",
    ),
    Said(
        "SL205",
        "reduction: 'mean' divides the total loss by both the batch size and the support size.",
        "F.kl_div(torch.randn(2, 3).log_softmax(1), torch.randn(2, 3).softmax(1))",
    ),
    Said(
        "SL302",
        "all elements of target should be between 0 and 1",
        "nn.BCELoss()(torch.rand(4), torch.tensor([-1.0, 1.0, 1.0, -1.0]))",
    ),
    Said(
        "SL304",
        "all elements of input should be between 0 and 1",
        "nn.BCELoss()(torch.tensor([-2.0, 0.5, 3.0]), torch.tensor([0.0, 1.0, 1.0]))",
    ),
    Said(
        "SL306",
        "Target 3 is out of bounds.",
        "nn.CrossEntropyLoss()(torch.randn(4, 3), torch.tensor([1, 2, 3, 3]))",
    ),
    Said(
        "SL308",
        "var has negative entry/entries",
        "nn.GaussianNLLLoss()(x, x, torch.tensor([0.5, -0.1, 1.0, 1.0]))",
    ),
    Said(
        "SL309",
        "argument #2 'target' is out of range",
        "nn.MultiLabelMarginLoss()(torch.randn(1, 4), torch.tensor([[4, -1, -1, -1]]))",
    ),
    Said(
        "SL312",
        "Expected input_lengths to have value at most 10, but got value 12",
        "nn.CTCLoss()(torch.randn(10, 1, 5).log_softmax(-1), torch.tensor([[1, 2, 3]]), "
        "torch.tensor([12]), torch.tensor([3]))",
    ),
)


def said_of(code: str) -> list[Said]:
    """The rows of `code`, the title first."""
    return [said for said in SAID if said.code == code]
