"""The cluster that a run needs: how many GPUs for what, and whether the nodes that are there are fit."""
