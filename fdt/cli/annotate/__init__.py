"""`fdt annotate`: people read answers on a page and judge them."""
