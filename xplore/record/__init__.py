"""From a run to a page: rows, statistics, tables, plots. This package knows rows, not runs.

Writing (`rows`):

* `Labels(suite, task, agent, bonus, worlds)`: what a run's rows are filed under.
* `writable_folder(folder) -> Path`: makes the folder and tries it; call it before a long run.
* `long_rows(seeds, env_steps[U], {metric: values[S, U] or [S]}) -> DataFrame`.
* `write_run(folder, labels, frame, sidecar, *, run_id) -> Path`: atomic and append-only.
* `has_run(folder, run_id) -> bool`.

Reading:

* `read_rows(folder, *, run_ids=None, on_problem=warn) -> DataFrame` with the columns of `COLUMNS` and
  `run_id`; `read_sidecars(folder, ...) -> {run_id: dict}`.

Reporting (`summary`, `tables`, `plots`), from plain data that describes the suite:

* `SuiteInfo(name, tasks=(TaskInfo(...), ...), methods=())`, `MethodInfo(label, agent, bonus, worlds)`.
* `summarise(rows, suite, *, sidecars=None, reps=2000, seed=0) -> Summary`: all numbers of a report.
* `task_table(summary)`, `method_table(summary) -> Table` with `.to_markdown()`, `.to_csv()`,
  `.to_latex()`.
* `learning_curves(rows, suite)`, `performance_profiles(summary)`, `aggregate_intervals(summary) ->
  Figure`, `save_figure(figure, path)`.

Statistics (`stats`): `iqm`, `optimality_gap`, `probability_of_improvement`, `performance_profile`,
`bootstrap_interval`, `wilson_interval`, `kaplan_meier`, `median_time`, `restricted_mean_time`.
"""

from xplore.record.files import writable_folder
from xplore.record.plots import (
    aggregate_intervals,
    learning_curves,
    performance_profiles,
    save_figure,
)
from xplore.record.rows import (
    COLUMNS,
    SCHEMA_VERSION,
    Labels,
    ResultsWarning,
    has_run,
    long_rows,
    read_rows,
    read_sidecars,
    run_path,
    write_run,
)
from xplore.record.summary import MethodInfo, SuiteInfo, Summary, TaskInfo, summarise
from xplore.record.tables import Table, method_table, task_table
