"""The address of a visitor, which a declared proxy forwards."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from tuner.errors import TunerError
from tuner.web import wsgi
from tuner.web.wsgi import Environ

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

FORWARDED = "X-Forwarded-For"
CUSTOMER_BITS = 64  # of an IPv6 address: the rest is chosen by the visitor


def parse_proxies(given: Iterable[str]) -> tuple[Network, ...]:
    """Return --trusted-proxy as networks; raise TunerError for what is neither an address nor a network."""
    found = []
    for text in given:
        try:
            network = ip_network(text)
        except ValueError as error:
            raise TunerError(
                f"--trusted-proxy {text[:80]!r}: give the address of the proxy, such as 127.0.0.1, "
                "or its network, such as 172.16.0.0/12"
                + (" (the bits after the prefix are zero)" if "host bits" in str(error) else "")
            ) from None
        if network.prefixlen == 0:
            raise TunerError(f"--trusted-proxy {text}: this trusts every visitor. Give the proxy's own network")
        found.append(network)
    return tuple(found)


def client_address(environ: Environ, proxies: tuple[Network, ...]) -> str:
    """Return the address by which a visitor's wrong passwords are counted.

    It is where the request comes from, or if that is a declared proxy, the last address in X-Forwarded-For that is
    not one: what stands before it was written by the visitor. An IPv6 address stands for its whole /64, and all
    loopback addresses are one.
    """
    remote = str(environ.get("REMOTE_ADDR", ""))
    found = parse_address(remote)
    hops = wsgi.request_header(environ, FORWARDED).split(",")
    while found and hops and any(found in network for network in proxies):
        if not (before := parse_address(hops.pop())):
            break
        found = before
    return remote if found is None else visitor_key(found)


def visitor_key(address: Address) -> str:
    """Return the text that stands for all addresses of one visitor."""
    if address.is_loopback:
        return "loopback"
    if address.version == 6:
        return str(ip_network((address, CUSTOMER_BITS), strict=False))
    return str(address)


def parse_address(text: str) -> Address | None:
    """Return an address as it stands in X-Forwarded-For, with or without a port; None if it is none."""
    plain = text.strip()
    if plain.startswith("["):
        plain = plain[1:].partition("]")[0]
    elif plain.count(":") == 1:
        plain = plain.partition(":")[0]
    try:
        found = ip_address(plain.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
