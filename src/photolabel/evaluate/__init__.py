"""How right a model is: answers held against what is known of the photos."""
