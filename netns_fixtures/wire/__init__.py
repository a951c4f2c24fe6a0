"""The userspace wire: links between TAP devices, impaired by a process of their own.

For kernels without netem (WSL2, Firecracker, many CI machines), and wherever a fault must be the same on
every run: all chance comes from a seed. `model` decides (sans-IO), `pump` moves frames, `client` is what the
lab holds. The process imports this package, so it imports nothing here: starting must stay cheap.

What a seed promises: with the same seed, condition and order of frames, the same frames are lost, doubled,
corrupted and held back, whatever the timing. Tail drop of a limited rate depends on timing, as on a real
link. Housekeeping of the link (`frames.is_housekeeping`: ARP, neighbour and multicast discovery) is delayed
and takes its share of the rate, but is never lost, doubled, corrupted or held back, and draws nothing: a
test then measures the protocol under test instead of the kernel's one-second ARP retry, and the kernel's
own chatter does not shift the fate of the test's packets.
"""
