"""The ledger of the paper's claims: each declared before the data, and decided by intervals."""
