"""Where a run goes: Slurm, a Ray cluster that is up, Kubernetes (`sv6d launch`)."""
