"""The kernel section of the linearity probe: what `probes.ntk` measures, on the same pairs."""

from dataclasses import fields

from core.errors import InputError
from probes.kernel_space import METRICS
from probes.linearity_config import LinearityConfig
from probes.linearity_section import Section
from probes.ntk.config import NtkConfig
from probes.ntk.kernel_bench import KernelBench
from probes.ntk.measure import kernel_facts, rows_and_arrays
from probes.options import ProbeOptions
from probes.pairs import Comparison
from probes.partial import PartialResults


def kernel_section(
    config: LinearityConfig, comparison: Comparison, partial: PartialResults
) -> Section:
    """Measure the kernels of every run, or find those that an earlier process finished.

    Raises:
        InputError: If a kernel cannot be computed, such as for want of memory.
    """
    if not config.kernel_samples:
        return Section()
    bench = KernelBench(_kernel_config(config), comparison, partial)
    try:
        rows, arrays = rows_and_arrays(bench)
    except InputError as error:
        raise InputError(f"{error}; or leave the kernels out: --kernel_samples 0") from error
    return Section(rows, arrays, METRICS, {"kernels": kernel_facts(bench)})


def _kernel_config(config: LinearityConfig) -> NtkConfig:
    shared = {f.name: getattr(config, f.name) for f in fields(ProbeOptions)}
    return NtkConfig(**shared, samples=config.kernel_samples)
