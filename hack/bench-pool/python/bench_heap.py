"""The handlers again, beside a heap of 100 MB in small objects, as a module with data of its own has."""

import bench_handlers  # noqa: F401 - its commands

HEAP = [f"{number:063d}" for number in range(870_000)]
