"""A code data set without leaks, by construction: built, verified, and learned from."""
# Written by hand, like all `__init__.py` of products.
