"""The columns of a FOCUS Cost and Usage file, in the order they are written: the specification's first, then ours.

FOCUS is the FinOps Open Cost and Usage Specification, https://focus.finops.org, version 1.2 and 1.4.
"""

from typing import Final

from langchain_finops.exports.files import Field, Kind

__all__ = ["COLUMNS", "ONLY", "OWN", "SAME_IN_1_2", "VERSIONS", "fields_of"]

VERSIONS: Final = ("1.2", "1.4")
ONLY: Final = {
    "ProviderName": "1.2",
    "PublisherName": "1.2",
    "CommitmentDiscountStatus": "1.2",
    "PricingCurrency": "1.2",
    "PricingCurrencyContractedUnitPrice": "1.2",
    "PricingCurrencyEffectiveCost": "1.2",
    "PricingCurrencyListUnitPrice": "1.2",
    "ServiceProviderName": "1.4",
    "HostProviderName": "1.4",
}
"""Columns that one version has and the other has not, or that only one's checker wants to see."""


def _field(name: str, kind: Kind, meaning: str) -> Field:
    return Field(name=name, kind=kind, meaning=meaning)


COLUMNS: Final = (
    _field("BilledCost", "money", "What is really paid: 0 for what a local cache or a replay answered."),
    _field("BillingAccountId", "text", "The provider's account, else `--billing-account`."),
    _field("BillingAccountName", "text", "Empty."),
    _field("BillingAccountType", "text", "`Account`."),
    _field("BillingCurrency", "text", "`USD`."),
    _field("BillingPeriodEnd", "time", "The first moment of the next month, in UTC."),
    _field("BillingPeriodStart", "time", "The first moment of the month in which the call began, in UTC."),
    _field("ChargeCategory", "text", "`Usage`; `Credit` and `Adjustment` for charges of that kind."),
    _field("ChargeClass", "text", "`Correction` where `finops close` posts what corrects a closed period; else empty."),
    _field("ChargeDescription", "text", "What was charged for, in words."),
    _field("ChargeFrequency", "text", "`Usage-Based`, or `One-Time`."),
    _field("ChargePeriodEnd", "time", "The first whole second by which it had ended; exclusive."),
    _field("ChargePeriodStart", "time", "The second in which it began."),
    _field("CommitmentDiscountStatus", "text", "Empty."),
    _field("ConsumedQuantity", "decimal", "Tokens, requests, seconds; a cached token is on its own row only."),
    _field("ConsumedUnit", "text", "`Tokens`, `Requests`, `Seconds`, or a charge's own unit."),
    _field("ContractedCost", "money", "After your discounts: the ledger's `contracted_usd`."),
    _field("ContractedUnitPrice", "decimal", "After your discounts, for one `PricingUnit`."),
    _field("EffectiveCost", "money", "As `BilledCost`: nothing is amortised."),
    _field("HostProviderName", "text", "On whose machines it ran; empty where nobody says."),
    _field("InvoiceId", "text", "Empty: these are no invoices."),
    _field(
        "InvoiceIssuerName",
        "text",
        "Who sends the bill; `Internal` for your own machines, people, adjustments; `Unknown provider`.",
    ),
    _field("ListCost", "money", "At list price: the ledger's `cost_usd`."),
    _field("ListUnitPrice", "decimal", "List price of one `PricingUnit`."),
    _field("PricingCategory", "text", "`Standard`."),
    _field("PricingCurrency", "text", "`USD`."),
    _field("PricingCurrencyContractedUnitPrice", "decimal", "As `ContractedUnitPrice`."),
    _field("PricingCurrencyEffectiveCost", "money", "As `EffectiveCost`."),
    _field("PricingCurrencyListUnitPrice", "decimal", "As `ListUnitPrice`."),
    _field("PricingQuantity", "decimal", "Millions of tokens, or as `ConsumedQuantity`."),
    _field("PricingUnit", "text", "`1000000 Tokens`, or as `ConsumedUnit`."),
    _field("ProviderName", "text", "Who sold it."),
    _field("PublisherName", "text", "As `ProviderName`."),
    _field("RegionId", "text", "Where it ran, as far as the model says."),
    _field("RegionName", "text", "The same."),
    _field("ServiceCategory", "text", "`AI and Machine Learning`; `Compute` for machines, `Other` for people."),
    _field("ServiceName", "text", "Such as `OpenAI API` or `Amazon Bedrock`."),
    _field("ServiceProviderName", "text", "Who sold it."),
    _field("ServiceSubcategory", "text", "`Generative AI`, or the category's `Other (...)`."),
    _field("SkuId", "text", "Model and meter, such as `gpt-5-input`."),
    _field("SkuMeter", "text", "Such as `Input Tokens`, `Output Tokens`, `Cache Read Input Tokens`."),
    _field("SkuPriceDetails", "json", "Model, direction, cache action and service tier, with keys of ours (`x_`)."),
    _field("SkuPriceId", "text", "`SkuId` and price variant, such as `gpt-5-input-ondemand` or `-batch`."),
    _field("SubAccountId", "text", "The provider's project or workspace."),
    _field("SubAccountName", "text", "The same."),
    _field("SubAccountType", "text", "`Project` where there is one."),
    _field("Tags", "json", "Your tags, and agent, node, task type, customer, project, environment, release."),
)
OWN: Final = (
    _field("x_AllocatedShares", "json", "With `--shares`: who bears how much, where a rule divides it."),
    _field("x_BillingMode", "text", "`payg`, `cache`, `self_hosted`, `replay` and so on; empty for charges."),
    _field("x_CallId", "text", "The call or charge: one row for each of its meters has it."),
    _field("x_ConsumerId", "text", "With `--users`: on whose behalf it ran."),
    _field("x_CostCentre", "text", "With `--shares`: the cost centre that bears it all."),
    _field("x_CostSource", "text", "`provider` where the provider stated the cost, else `local`."),
    _field("x_CostStatus", "text", "`exact`, `estimated`, `reported` or `free`."),
    _field("x_Node", "text", "The LangGraph node's path."),
    _field("x_PrincipalId", "text", "The agent."),
    _field("x_RateCardId", "text", "The rate card."),
    _field("x_Role", "text", "`agent`, `judge`, `simulator` or `overhead`."),
    _field("x_RunId", "text", "The run."),
    _field("x_TaskId", "text", "The task."),
    _field("x_Team", "text", "With `--shares`: the team that bears it all."),
)

SAME_IN_1_2: Final = {
    "PricingCurrency": "BillingCurrency",
    "PricingCurrencyContractedUnitPrice": "ContractedUnitPrice",
    "PricingCurrencyEffectiveCost": "EffectiveCost",
    "PricingCurrencyListUnitPrice": "ListUnitPrice",
    "PublisherName": "ProviderName",
}
"""Columns of 1.2 that say what another one says: prices are in the currency that is billed."""


def fields_of(version: str) -> tuple[Field, ...]:
    """The columns of a version's file, in order."""
    return (*(field for field in COLUMNS if ONLY.get(field.name, version) == version), *OWN)
