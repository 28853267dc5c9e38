"""A VNC server for a machine's display, keyboard and tablet: the RFB protocol, versions 3.3, 3.7 and 3.8 (RFC 6143).

It listens on a loopback address or a unix socket only, since it asks nobody for a password; from elsewhere it is
reached through an SSH tunnel. Needs NumPy: ``pip install wirt[display]``.
"""

from wirt.vnc.server import VncServer

__all__ = ["VncServer"]
