"""Training: the loop, what can learn, rates, the run's folder and the probe."""
