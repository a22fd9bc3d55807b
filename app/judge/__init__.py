"""Judge page: a pair of videos, the model's thoughts, its rewards, and a vote."""
