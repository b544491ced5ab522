"""Optional libraries: imported when they are needed, or an error that says how to install them."""

import importlib
import sys
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from braintune.errors import InputError

# Libraries that import torchvision, which takes seconds that others need not wait for.
_OVER_TORCHVISION = {"timm", "transformers"}
# Kept alive, or the operators are forgotten.
_declared: list[Any] = []


def import_extra(module: str, extra: str) -> ModuleType:
    """Import a module of an optional library.

    Args:
        module: The module.
        extra: The extra of braintune that installs it.

    Raises:
        InputError: If it is not installed.

    Example:
        >>> import_extra("no_such_library", "encoders")
        Traceback (most recent call last):
        ...
        braintune.errors.InputError: This needs no_such_library: pip install 'braintune[encoders]'.
    """
    library = module.partition(".")[0]
    if find_spec(library) is None:
        raise InputError(f"This needs {library}: pip install 'braintune[{extra}]'.")
    if library in _OVER_TORCHVISION:
        make_torchvision_importable()
    return importlib.import_module(module)


def make_torchvision_importable() -> None:
    """Let torchvision be imported where its compiled part does not fit the installed torch.

    Beside a torch for processors, pip may install a torchvision that was built for CUDA. It can't
    register its operators and then fails at import, and timm and transformers with it. Networks
    need none of these operators, so it is enough to declare them.
    """
    if "torchvision" in sys.modules or find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declare_operators()
        importlib.import_module("torchvision")


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
