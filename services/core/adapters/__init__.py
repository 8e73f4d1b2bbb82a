"""What talks to the outside: files, models, the wire; it never decides what is computed."""
