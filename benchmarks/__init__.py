"""Imported as ``xplore.benchmarks``; under any other name every class here would exist twice."""

if __name__ != "xplore.benchmarks":
    raise ImportError(
        "import xplore.benchmarks, not benchmarks: the folder is part of the xplore package"
    )
