"""What several benchmarks use: clients of a served app, clips and prompts made for them, and how figures are summed up."""
