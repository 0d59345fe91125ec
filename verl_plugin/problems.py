"""What of the plug-in could not be registered in this process: `verl.py` notes it, the doctor and our trainers ask."""

PROBLEMS: list[str] = []
"""`<what>: <error>`, one a failure."""
