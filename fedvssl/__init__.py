"""Federated self-supervised video representation learning (FedVSSL, arXiv 2207.01975) over Flower.

The names of `__all__` are the Python API; what is behind them is loaded when one is used. See fedvssl/api.py.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedvssl.api import Features, Run, features, load_backbone, train

__version__ = "0.1.0"
__all__ = ["Features", "Run", "features", "load_backbone", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'fedvssl' has no attribute '{name}'")
    from fedvssl import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
