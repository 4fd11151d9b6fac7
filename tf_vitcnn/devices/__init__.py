"""What this machine is, in one place: strategy, replicas, memory, cores, the other workers."""
