"""Kubeflow pipelines: which stage runs after which, where, and with what."""
