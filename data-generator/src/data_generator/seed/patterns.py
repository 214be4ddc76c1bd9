"""What makes an order suspicious or fraudulent: groups of orders that share what honest ones don't.

| pattern | label | what shows |
|---|---|---|
| card_testing | fraud | ten orders of one customer within minutes, before dawn, one card |
| shared_card | fraud | one card fingerprint with six customers within an hour |
| one_ip | fraud | ten customers from one address within two hours |
| large_amount | suspicious | twenty to sixty pieces, at an odd hour |
| quick_repeat | suspicious | three orders of one customer within ten minutes |
| many_cards | suspicious | three cards of one customer within a day |
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

from data_generator.entities.orders import CARD, NETWORKS, Order

_MINUTE = 60.0
_HOUR = 60 * _MINUTE


@dataclass(frozen=True)
class Placed:
    """An order and when it was placed: `day` from 0, `second` of the local day."""

    order: Order
    day: int
    second: float
    label: str = "normal"
    pattern: str = ""


Group = list[Placed]
Bend = Callable[[Group, Random], Group]


def _card(rng: Random) -> str:
    return hashlib.sha256(b"stolen %d" % rng.getrandbits(64)).hexdigest()


def _with_card(order: Order, fingerprint: str) -> Order:
    return replace(order, payment_method=CARD, card_fingerprint=fingerprint)


def _at(group: Group, day: int, begin: float, within: float, rng: Random) -> Group:
    """Moved to one day, at random within `within` seconds after `begin`, and never past midnight."""
    return [replace(one, day=day, second=min(86_399.0, begin + rng.random() * within)) for one in group]


def card_testing(group: Group, rng: Random) -> Group:
    """See the table."""
    card, first = _card(rng), group[0].order
    bent = [
        replace(one, order=_with_card(replace(one.order, profile_id=first.profile_id, ip=first.ip), card))
        for one in group
    ]
    return _at(bent, group[0].day, (2 + 3 * rng.random()) * _HOUR, 5 * _MINUTE, rng)


def shared_card(group: Group, rng: Random) -> Group:
    """See the table."""
    card = _card(rng)
    bent = [replace(one, order=_with_card(one.order, card)) for one in group]
    return _at(bent, group[0].day, group[0].second, _HOUR, rng)


def one_ip(group: Group, rng: Random) -> Group:
    """See the table."""
    address = f"{rng.choice(NETWORKS)}.255"
    bent = [replace(one, order=replace(one.order, ip=address)) for one in group]
    return _at(bent, group[0].day, group[0].second, 2 * _HOUR, rng)


def large_amount(group: Group, rng: Random) -> Group:
    """See the table."""
    [one] = group
    lines = [(product, rng.randint(20, 60), price) for product, _, price in one.order.lines]
    bent = replace(one, order=replace(one.order, lines=lines))
    return _at([bent], one.day, 2 * _HOUR, 3 * _HOUR, rng)


def quick_repeat(group: Group, rng: Random) -> Group:
    """See the table."""
    first = group[0].order
    bent = [replace(one, order=replace(one.order, profile_id=first.profile_id, ip=first.ip)) for one in group]
    return _at(bent, group[0].day, group[0].second, 10 * _MINUTE, rng)


def many_cards(group: Group, rng: Random) -> Group:
    """See the table."""
    first = group[0].order
    bent = [
        replace(one, order=_with_card(replace(one.order, profile_id=first.profile_id, ip=first.ip), _card(rng)))
        for one in group
    ]
    return [replace(one, day=group[0].day) for one in bent]


#: By label: pattern and how many orders make one group of it.
PATTERNS: dict[str, tuple[tuple[Bend, int], ...]] = {
    "fraud": ((card_testing, 10), (shared_card, 6), (one_ip, 10)),
    "suspicious": ((large_amount, 1), (quick_repeat, 3), (many_cards, 3)),
}


def bend(label: str, orders: Group, rng: Random) -> Iterator[Placed]:
    """`orders` made into groups of the label's patterns in turn; what is left over makes a smaller group."""
    kinds, turn, at = PATTERNS[label], 0, 0
    while at < len(orders):
        pattern, size = kinds[turn % len(kinds)]
        for one in pattern(orders[at : at + size], rng):
            yield replace(one, label=label, pattern=pattern.__name__)
        at, turn = at + size, turn + 1
