"""Kubeflow components, one per stage: image, command and flags, nothing else."""
