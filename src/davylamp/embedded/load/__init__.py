"""A load generator that hides nothing: open loop, no retries, every request accounted for.

Requests are due at fixed times. One that finds all connections busy gets a new connection (up to a limit)
rather than waiting for an old one, and its latency counts from when it was due: a slow server does not slow
the load, nor hide in it.

Each request ends as exactly one of
  answered  by its status; `failed` are those of 5xx among them
  lost      no answer: could not connect, the connection was closed or reset, or the timeout was over
"""
