"""Where measurements come from: pods' own metrics, Prometheus, logs, what users say, and other people's checks."""
