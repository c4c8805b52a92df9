"""Imported as ``xplore.envs``; under any other name every class here would exist twice."""

if __name__ != "xplore.envs":
    raise ImportError("import xplore.envs, not envs: the folder is part of the xplore package")
