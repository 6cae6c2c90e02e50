"""One script a question: `python -m benchmarks.NAME --help` says which.

Not part of the package that is installed; they run from a checkout.
"""
