"""What is on record: MLflow, provenance, the ablation table."""
