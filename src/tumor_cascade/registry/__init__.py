"""What the tracking server and the model registry know: the only package that imports mlflow."""
