"""Financial control of autonomous AI agents on LangChain and LangGraph."""
