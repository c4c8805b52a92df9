"""Imported as ``xplore.agents``; under any other name every class here would exist twice."""

if __name__ != "xplore.agents":
    raise ImportError("import xplore.agents, not agents: the folder is part of the xplore package")
