"""What a training run left behind, a module a format: our recorder, verl's file logger, TensorBoard, W&B offline, rollout dumps."""
