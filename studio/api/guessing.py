"""Slows down who guesses passwords: after some wrong ones, each further one makes an address wait twice as long."""

import ipaddress
import logging
import time
from collections import OrderedDict

FREE = 5
"""Wrong answers without a wait."""
LONGEST = 300
"""Seconds an address waits at most."""
FORGOTTEN = 3600.0
"""Seconds after which wrong answers do not count any more."""
MOST = 4096
"""Addresses that are remembered."""
log = logging.getLogger("studio.access")


class Guesses:
    """Wrong answers by address; IPv6 addresses count by their /64, of which one machine has all."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, address: str) -> int:
        """Seconds until an address may try again; 0 when it may now."""
        count, last = self._known.get(_network(address), (0, 0.0))
        if count < FREE:
            return 0
        left = min(LONGEST, 2 ** min(count - FREE, 20)) - (time.monotonic() - last)
        return max(0, int(left) + 1) if left > 0 else 0

    def wrong(self, address: str) -> None:
        """Count a wrong answer and write it into the log."""
        key, now = _network(address), time.monotonic()
        count, last = self._known.pop(key, (0, now))
        count = 1 if now - last > FORGOTTEN else count + 1
        self._known[key] = (count, now)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        log.warning("Wrong password or token from %s (%d in a row).", key or "an unknown address", count)

    def right(self, address: str) -> None:
        """Forget the wrong answers of an address."""
        self._known.pop(_network(address), None)


def _network(address: str) -> str:
    """What an address counts as."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64] if address.isprintable() else ""
    if found.version == 4:
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network(f"{found}/64", strict=False))
