"""Records in, intervals and verdicts out; works without PyTorch."""
