"""Where LangChain and LangGraph are met: the handler, and what it needs to understand their events."""
