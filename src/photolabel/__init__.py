"""photolabel names what is in a photograph."""

__version__ = "0.1.0"
