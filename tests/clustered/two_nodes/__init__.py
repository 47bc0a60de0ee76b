"""Tests that share one cluster of two small nodes: a package, so that it ends with the last of them."""
