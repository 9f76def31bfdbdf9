"""Which safe loss stands in for which native one: that of its name."""

from torch import nn

from safeloss import losses

# Native class to safe class.
SAFE: dict[type[nn.Module], type[nn.Module]] = {
    getattr(nn, name.removeprefix("Safe")): getattr(losses, name)
    for name in dir(losses)
    if name.startswith("Safe") and hasattr(nn, name.removeprefix("Safe"))
}
