"""The relays that 0.28 to 0.35 have built in and ask for their public address; there is no option for others."""

#: A lab's relay stands in for all of them: its certificate has their names, and official nodes look them up there.
BUILT_IN_RELAYS = ("use1-1.relay.iroh.network", "euw1-1.relay.iroh.network", "aps1-1.relay.iroh.network")
