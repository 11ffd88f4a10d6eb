"""Whether a canary is worse than stable, from counts: pure statistics, no I/O, no clock.

`counts` is what goes in, `rules` how strict to be, `look` the one running computation, `verdict` what comes out.
"""
