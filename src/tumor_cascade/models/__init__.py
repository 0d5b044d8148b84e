"""Networks and the cascade: plain arguments in, tensors out; no I/O, no logging."""
