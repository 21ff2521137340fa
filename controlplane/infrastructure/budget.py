"""The budget: an e-mail before a month costs more than expected."""

from troposphere import And, Condition, Equals, Not, Parameter, Ref, Sub, Template, budgets

from controlplane.infrastructure.alarms import EMAIL_PARAMETER, HAS_EMAIL
from controlplane.infrastructure.names import PROJECT
from controlplane.infrastructure.stages import Stage

BUDGET_PARAMETER = "BudgetDollars"
_HAS_BUDGET = "HasBudget"


def budget_add(template: Template, stage: Stage) -> None:
    """Add the budget of the whole account, if there are an address for alarms and an amount.

    A budget by tags would count nothing until the payer of the account activates the tags, and so never warn.
    """
    template.add_parameter(
        Parameter(
            BUDGET_PARAMETER,
            Type="Number",
            Default=50,
            Description="US dollars a month that the account is expected to cost at most; 0: no budget",
        )
    )
    template.add_condition(_HAS_BUDGET, And(Condition(HAS_EMAIL), Not(Equals(Ref(BUDGET_PARAMETER), "0"))))
    template.add_resource(
        budgets.Budget(
            "Budget",
            Condition=_HAS_BUDGET,
            Budget=budgets.BudgetData(
                BudgetName=Sub(f"{PROJECT}-{stage.name}-${{AWS::Region}}"),
                BudgetType="COST",
                TimeUnit="MONTHLY",
                BudgetLimit=budgets.Spend(Amount=Ref(BUDGET_PARAMETER), Unit="USD"),
            ),
            NotificationsWithSubscribers=[_warning("ACTUAL", 80), _warning("FORECASTED", 100)],
        )
    )


def _warning(kind: str, percent: int) -> budgets.NotificationWithSubscribers:
    return budgets.NotificationWithSubscribers(
        Notification=budgets.Notification(
            NotificationType=kind,
            ComparisonOperator="GREATER_THAN",
            Threshold=percent,
            ThresholdType="PERCENTAGE",
        ),
        # By mail and not by the alarms' topic: its key would have to trust one more service.
        Subscribers=[budgets.Subscriber(SubscriptionType="EMAIL", Address=Ref(EMAIL_PARAMETER))],
    )
