"""`davy simulate`: releases by the real controller in virtual time, with imagined pods and imagined traffic.

`stage` makes the objects, `traffic` the requests, `run` one release, `many` a thousand; `summary` and `plot` tell.
"""
