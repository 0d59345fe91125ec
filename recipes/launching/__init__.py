"""Where a run goes: one machine, Slurm, a Ray cluster that is up, Kubernetes; and whether every node of it is fit to take part."""
