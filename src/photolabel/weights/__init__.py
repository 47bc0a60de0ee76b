"""One reader a format -> named arrays. A reader trusts nothing in the file and executes nothing in it."""
