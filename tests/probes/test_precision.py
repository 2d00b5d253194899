"""Every command of the probes measures in full precision."""

import pytest
import torch

from core.errors import InputError
from probes import feature_probe, linearity
from probes.linearity_config import LinearityConfig
from probes.ntk import __main__ as ntk_command
from probes.ntk import measure as ntk_measure
from probes.ntk.config import NtkConfig
from probes.richness import __main__ as richness_command
from probes.richness.config import RichnessConfig

COMMANDS = {
    "linearity": (linearity, "load_pairs", lambda: linearity.probe(LinearityConfig())),
    "ntk": (ntk_measure, "load_pairs", lambda: ntk_command.probe(NtkConfig())),
    "richness": (feature_probe, "load_features", lambda: richness_command.probe(RichnessConfig())),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_measures_in_full_precision(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, loader, command = COMMANDS[name]
    seen: list[bool] = []

    def load(*_: object) -> None:
        seen.append(torch.backends.cudnn.allow_tf32)
        raise InputError("far enough")

    monkeypatch.setattr(module, loader, load)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    try:
        with pytest.raises(InputError, match="far enough"):
            command()
    finally:
        torch.backends.cudnn.allow_tf32 = before
    assert seen == [False]
