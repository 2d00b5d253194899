"""The paper's study on any network and data: rivals, sweeps, a ledger of claims, one PDF."""
