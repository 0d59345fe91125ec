"""verl's FSDP engine with rates by component, and pixels that come to it as bytes."""
