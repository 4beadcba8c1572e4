"""Where a request comes from, as it is counted: behind proxies that are trusted, the address that they saw."""

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

Network = IPv4Network | IPv6Network

_IPV6_BITS = 64
"""Of an address: the rest is for the holder of the network to choose, so all of it counts as one."""


def networks_of(text: str) -> tuple[Network, ...]:
    """Networks separated by commas.

    Raises:
        ValueError: one of them is none.
    """
    return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())


def address_of(scope: Any, proxies: tuple[Network, ...]) -> str:
    """The address of the connection; from a trusted proxy, the last one in X-Forwarded-For that is no trusted proxy."""
    address = str((scope.get("client") or ("",))[0])
    if proxies and _is_in(address, proxies):
        told = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        for hop in reversed([hop.strip() for value in told for hop in value.split(",")]):
            if not _is_address(hop):
                break
            address = hop
            if not _is_in(hop, proxies):
                break
    return _network_of(address)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_in(text: str, networks: tuple[Network, ...]) -> bool:
    return _is_address(text) and any(ip_address(text) in network for network in networks)


def _network_of(text: str) -> str:
    if not _is_address(text):
        return text
    address = ip_address(text)
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address, _IPV6_BITS), strict=False))
