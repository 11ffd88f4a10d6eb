"""A kubelet whose containers are ordinary processes.

model.py   what a pod means, and the status that follows from its containers: pure
pod.py     one pod: its processes, probes, restarts and end
logs.py    what containers wrote, kept on disk and served for `kubectl logs`
agent.py   the watch, the nodes, and one runner for each pod

Differences from a real kubelet are listed in lab/README.md.
"""
