"""A claim of the paper as it is declared before the data: what is tested, and what decides."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from analysis.claims.requirement import Judgement


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim in testable form.

    Attributes:
        name: C1 to C19.
        statement: What is claimed.
        statistic: What is computed.
        direction: What the claim predicts of it.
        rule: When it is supported, and when contradicted.
        paper: The paper's own number, or why there is none.
        needs: Rows and columns of the runs frame that it is tested on.
        judge: From a checked runs frame to its requirements.

    `judge` raises an `InputError` that says what is missing where the claim cannot be tested.
    """

    name: str
    statement: str
    statistic: str
    direction: str
    rule: str
    paper: str
    needs: str
    judge: Callable[[pd.DataFrame], Judgement]
