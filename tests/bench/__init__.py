"""The figures of V1-V5 and V8: `python -m tests.bench [--quick] [--only NAME...] [--profile worker|api]`.

Two checkouts against each other: `python -m tests.bench.compare OTHER_CHECKOUT [--rounds N] [--only NAME...]`.
"""
