"""Records in, figures and PDFs out; works without PyTorch."""
