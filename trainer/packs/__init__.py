"""A run taken elsewhere: packed into one folder, trained there with nothing else, taken back."""
