"""`fdt serve`: a policy behind OpenAI's protocol; what is said to it is recorded and can be learned from."""
