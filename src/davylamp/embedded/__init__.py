"""A cluster in one process, for the demo, for simulation and for tests: the extra `davylamp[embedded]`."""
