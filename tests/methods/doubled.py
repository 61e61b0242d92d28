"""Double precision without a change of the code: what it asks of float32 is done in float64.

Kernels of different processors and threads add in different orders. In float32 twenty steps make
a few per cent of that; in float64 nothing that matters, while a changed formula shows as before.
"""

import contextlib

import torch
from torch.overrides import TorchFunctionMode


def _widened(value):
    """float64 in place of float32: the dtype, a tensor, tensors in a list or tuple."""
    if value is torch.float32:
        return torch.float64
    if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
        return value.double()
    if type(value) in (list, tuple):
        return type(value)(_widened(part) for part in value)
    return value


class _Doubled(TorchFunctionMode):
    """Arguments in float64; NumPy, whose kernels here are compiled for float32, gets that."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = {name: _widened(value) for name, value in (kwargs or {}).items()}
        if func is torch.Tensor.float:
            return args[0].double()
        if func in (torch.Tensor.numpy, torch.Tensor.__array__) and args[0].dtype == torch.float64:
            return func(args[0].to(torch.float32), *args[1:], **kwargs)
        return func(*_widened(args), **kwargs)


@contextlib.contextmanager
def doubled():
    """Within it every tensor of floats is of double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with _Doubled():
            yield
    finally:
        torch.set_default_dtype(before)
