"""Photos of a user's own classes -> a network that names them."""
