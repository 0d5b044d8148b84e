"""Sources, arrays, manifest, expectations, splits, preprocessing and augmentation."""
