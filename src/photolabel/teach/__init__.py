"""Classes of a user's own: a linear head on a network's features, and what is to be doubted of it and its photos."""
