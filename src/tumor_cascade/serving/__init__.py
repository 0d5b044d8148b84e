"""A cascade behind HTTP: rows of base64 images in, answers out; nothing is kept on disk."""
