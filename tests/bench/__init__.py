"""The figures of V1-V5 and V8: `python -m tests.bench [--quick] [--only NAME...] [--profile worker|api]`."""
