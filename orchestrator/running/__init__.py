"""A sweep at work: its cells from their start to their end, told to MLflow and to the screen."""
