"""Prices: from an answer's counts to exact dollars, or to an honest "unpriced"."""

from langchain_finops.pricing.book import PriceBook
from langchain_finops.pricing.cards import Card, SelfHosted, parse_cards
from langchain_finops.pricing.cost import Cost, MeterCost, PriceKey, Reading

__all__ = ["Card", "Cost", "MeterCost", "PriceBook", "PriceKey", "Reading", "SelfHosted", "parse_cards"]
