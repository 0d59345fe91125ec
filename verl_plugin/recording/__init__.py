"""What a step measured: a row a rollout for the recorder, and metrics by task for verl's loggers (docs/recording.md)."""
