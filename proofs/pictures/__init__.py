"""Tables and pictures of the notebooks; they change no number."""
