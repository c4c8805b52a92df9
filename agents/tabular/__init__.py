"""Tabular agents: exact references whose published laws calibrate everything else."""
