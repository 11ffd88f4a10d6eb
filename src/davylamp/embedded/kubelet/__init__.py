"""A kubelet whose containers are ordinary processes, and one whose containers are only imagined.

model.py     what a pod means, and the status that follows from its containers: pure
pod.py       one pod: its processes, probes, restarts and end
logs.py      what containers wrote, kept on disk and served for `kubectl logs`
network.py   addresses of pods
agent.py     the watch, the nodes, and one runner for each pod
api.py       requests to the API server
imagined.py  pods without processes, on any clock

It serves the embedded cluster and, in a network namespace, the lab's real control plane. lab/README.md lists where it
differs from a real kubelet.
"""
