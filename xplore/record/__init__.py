"""From a run to a page: rows, statistics, tables, plots. This package knows rows, not runs.

* `files`: `writable_folder`, to be called before a long run.
* `rows`: `Labels`, `long_rows`, `write_run`, `has_run`; `read_rows`, `read_sidecars`.
* `provenance`: what a sidecar says about the code, the packages and the machine.
* `stats`, `survival`: interquartile means, bootstrap and Wilson intervals, performance profiles,
  probabilities of improvement; times to solve with censoring.
* `summary`: `SuiteInfo`, `TaskInfo` and `MethodInfo` describe a suite as plain data, and
  `summarise(rows, suite)` computes every number of its report.
* `tables`: `task_table`, `method_table`, as markdown, CSV and LaTeX.
* `plots`: `learning_curves`, `performance_profiles`, `aggregate_intervals`, `save_figure`.

Nothing is imported here: who writes rows should not wait for matplotlib.
"""
