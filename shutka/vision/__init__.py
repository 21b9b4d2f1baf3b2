"""Pictures and words: scenes whose truth is known, and lists of pictures that are opened with care."""
# Written by hand, like all `__init__.py` of products.
