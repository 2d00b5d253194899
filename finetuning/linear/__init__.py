"""The paper's linear model (1): its layer, its options, its fit; `python -m finetuning.linear`."""

from finetuning.linear.model import LinearModel, stacked

__all__ = ["LinearModel", "stacked"]
