"""`davy demo`: a good and a bad release, live, on the embedded cluster or on a real control plane."""
