"""What splits traffic: the routers, and what a policy means in the cluster.

Pure: objects in, answers out. `review` is the way in (`resolve`, `review`, `bind`), `namespace.NamespaceObjects`
what it reads. A router is a struct that satisfies `davylamp.core.world.Route`; there is one so far,
`nginx.NginxRoute`.
"""
