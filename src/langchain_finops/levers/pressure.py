"""What is left of the budgets that apply to a run, as its handler's ledger has them."""

from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_callback_manager_for_config

from langchain_finops.langchain.affording import share_left_of
from langchain_finops.langchain.handler import FinOpsHandler

__all__ = ["handler_in", "share_left"]


def handler_in(config: RunnableConfig) -> FinOpsHandler | None:
    """The FinOpsHandler that meters what is called with this config, attached ones included."""
    callbacks: Any = config.get("callbacks")
    handlers = getattr(callbacks, "handlers", None)
    if handlers is None:
        handlers = get_callback_manager_for_config(config).handlers
    return next((each for each in handlers if isinstance(each, FinOpsHandler)), None)


def share_left(config: RunnableConfig) -> float | None:
    """What is left of the tightest limit in dollars or tokens that applies, as a share of it; None: none applies."""
    handler = handler_in(config)
    if handler is None:
        return None
    return handler.tell(share_left_of, handler.recorder, config.get("metadata") or {})
