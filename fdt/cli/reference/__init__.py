"""`fdt reference`: every class and function that a config can name, with its arguments and an example."""
