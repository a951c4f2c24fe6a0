"""The relay protocol as pure code: frames, codecs of both generations, and the client's machine.

``frames`` are the values; ``v3`` and ``v1`` turn them into bytes and back; ``upgrade`` is the HTTP entry;
``handshake`` proves identities; ``websocket`` carries messages; ``machine`` joins them to a relay client;
``liveness`` and ``backoff`` decide when a connection is dead and when to dial again.
"""
