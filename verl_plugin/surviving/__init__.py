"""What lets a run survive what clusters do (docs/surviving.md): whole checkpoints, stopping when asked, watched workers, a full disk."""
