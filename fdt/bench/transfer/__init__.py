"""`fdt bench transfer`: what training on one data set does to the others, and the order that follows from it."""
