"""Work of a run in several processes: their group and its time limit, a store that all of them see, a queue of work."""
