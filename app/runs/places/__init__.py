"""Where runs run: this machine, SLURM, or elsewhere as a pack; one interface, a module each."""
