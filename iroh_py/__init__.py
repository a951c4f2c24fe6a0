"""iroh in Python: connections between nodes that are named by key and heal when the network changes.

How a datagram travels: a UDP socket or a relay hands it to the driver (``io/driver.py``), which stamps the time and
feeds the core (``proto/endpoint_core.py``); ``proto/demux.py`` tells disco, STUN and QUIC apart; disco goes to the
node it is from (``proto/node_state.py``), QUIC to its session (``proto/quic``); what that makes due is sent over the
path that the node trusts; events wake connections, streams and watchers.
"""

from iroh_py.addr import NodeAddr as NodeAddr
from iroh_py.addr import NodeTicket as NodeTicket
from iroh_py.addr import RelayUrl as RelayUrl
from iroh_py.config import PING_INTERVAL as PING_INTERVAL
from iroh_py.config import EndpointConfig as EndpointConfig
from iroh_py.connection import Connection as Connection
from iroh_py.connection import ConnectionPath as ConnectionPath
from iroh_py.endpoint import Endpoint as Endpoint
from iroh_py.errors import AlpnMismatchError as AlpnMismatchError
from iroh_py.errors import BindError as BindError
from iroh_py.errors import ClosedError as ClosedError
from iroh_py.errors import ConnectError as ConnectError
from iroh_py.errors import ConnectionLostError as ConnectionLostError
from iroh_py.errors import ConnectTimeoutError as ConnectTimeoutError
from iroh_py.errors import IdentityMismatchError as IdentityMismatchError
from iroh_py.errors import IrohError as IrohError
from iroh_py.errors import LocalProtocolError as LocalProtocolError
from iroh_py.errors import NoAddressError as NoAddressError
from iroh_py.errors import PeerClosedError as PeerClosedError
from iroh_py.errors import RemoteProtocolError as RemoteProtocolError
from iroh_py.errors import SelfConnectError as SelfConnectError
from iroh_py.errors import StreamError as StreamError
from iroh_py.errors import StreamResetError as StreamResetError
from iroh_py.errors import StreamStoppedError as StreamStoppedError
from iroh_py.errors import TicketError as TicketError
from iroh_py.errors import TimedOutError as TimedOutError
from iroh_py.keys import NodeId as NodeId
from iroh_py.keys import SecretKey as SecretKey
from iroh_py.streams import RecvStream as RecvStream
from iroh_py.streams import SendStream as SendStream

__version__ = "0.1.0"

__all__ = [
    "PING_INTERVAL",
    "AlpnMismatchError",
    "BindError",
    "ClosedError",
    "ConnectError",
    "ConnectTimeoutError",
    "Connection",
    "ConnectionLostError",
    "ConnectionPath",
    "Endpoint",
    "EndpointConfig",
    "IdentityMismatchError",
    "IrohError",
    "LocalProtocolError",
    "NoAddressError",
    "NodeAddr",
    "NodeId",
    "NodeTicket",
    "PeerClosedError",
    "RecvStream",
    "RelayUrl",
    "RemoteProtocolError",
    "SecretKey",
    "SelfConnectError",
    "SendStream",
    "StreamError",
    "StreamResetError",
    "StreamStoppedError",
    "TicketError",
    "TimedOutError",
]
