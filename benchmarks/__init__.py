"""How fast, beside what else people use: one script a question. `python -m benchmarks --help`."""
