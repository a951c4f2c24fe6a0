"""The lab agent: one child process that owns every namespace, its netlink sockets, rules, wires and
processes.

``rights`` gets it the capabilities, ``netns`` switches namespaces, ``netlink`` speaks rtnetlink and
ctnetlink, ``nft`` loads rules, ``wires`` splices impaired links, ``processes`` and ``child`` start programs,
``labs`` carries out requests, ``server`` reads them. It is single-threaded on purpose: the calling thread's
namespace is part of every call.
"""
