"""Kubernetes' own controllers on the store of the embedded cluster.

objects.py        reading JSON objects
writes.py         what a controller wants written
index.py          what is known: every object by uid, owner and kind
deployment.py     rolling update, recreate, pause, history, adoption     (with scaling.py, progress.py)
replicaset.py     pods of a ReplicaSet
endpointslice.py  pods of a Service
garbage.py        dependents of deleted owners
namespaces.py     what is in a deleted namespace
podlife.py        pods without a node
loop.py           queues, timers, and the order in which all that happens

Each is a pure function from objects and a time to writes; only loop.py writes.
"""
