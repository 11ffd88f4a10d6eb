"""What splits traffic: the routers, and what a policy means in the cluster.

Pure: objects in, answers out. A router is a struct that satisfies `davylamp.core.world.Route`; there is one so far,
`nginx.NginxRoute`, and `review.bind` chooses among them.
"""

from davylamp.routers.namespace import NamespaceObjects
from davylamp.routers.review import Resolution, bind, resolve

__all__ = ["NamespaceObjects", "Resolution", "bind", "resolve"]
