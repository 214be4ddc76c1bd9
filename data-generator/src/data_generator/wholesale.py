"""Large orders for floods: as valid as those of visitors, at a few microseconds each.

A visitor's order is drawn line by line, which at 18 lines (about 300 bytes) costs more than sending it. Here the lines
come from shuffled price lists, NumPy's work: each order takes the next few of one list, so that no product is on
two of its lines, and no two orders share a section of a list. Everything else is as usual: its own id, customer,
payment, amount equal to the sum of its lines. It is the first record of the order, `placed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import numpy as np

from data_generator.encoding import Encoded, Payload, encode_long
from data_generator.entities.orders import CARD, PAYMENTS, PLACED, QUANTITIES, address, fingerprint
from data_generator.world import World
from data_platform_core.errors import ConfigurationError

#: Lines drawn at once: enough to share NumPy's fixed costs, little enough to stay in the processor's cache.
CHUNK_LINES = 20_000


def wholesale(world: World, encode: Payload, lines: int, rng: Random) -> Iterator[tuple[bytes, bytes]]:
    """Endless (key, payload) of orders with `lines` lines on average, from half to one and a half times as many.

    Raises ConfigurationError when the catalogue is too small for such an order.
    """
    least, most = max(1, lines - lines // 2), lines + lines // 2
    size = len(world.products)
    if lines < 1 or most > size:
        raise ConfigurationError(
            f"--lines is {lines}, so up to {most} products in one order, and the scenario has {size}; "
            f"give 1 to {size * 2 // 3}"
        )
    return _orders(world, encode, least, most, rng)


def _orders(world: World, encode: Payload, least: int, most: int, rng: Random) -> Iterator[tuple[bytes, bytes]]:
    random, profiles = rng.random, world.profiles
    customers, prints = len(profiles), _Fingerprints()
    for count, amount, lines in _baskets(world, least, most, rng):
        number = profiles[int(random() * customers)].profile_id
        payment = PAYMENTS.pick(random())
        order_id = world.next_order_id()
        yield (
            order_id.encode(),
            encode(
                order_id=order_id,
                order_status=PLACED,
                profile_id=number,
                # An Avro array: one block, and the end.
                lines=Encoded(encode_long(count) + lines + b"\x00"),
                amount_krw=amount,
                payment_method=payment,
                card_fingerprint=prints[number] if payment == CARD else None,
                ip=address(number),
            ),
        )


class _Fingerprints(dict[int, str]):
    """SHA-256 costs as much as the rest of a record, and a customer has one card."""

    def __missing__(self, number: int) -> str:
        made = fingerprint(number)
        if len(self) < 100_000:
            self[number] = made
        return made


def _baskets(world: World, least: int, most: int, rng: Random) -> Iterator[tuple[int, int, bytes]]:
    """Number of lines, their sum in whole KRW, and their Avro bytes."""
    choices = [
        (product.product_id, quantity, product.price_krw)
        for product in world.products
        for quantity in QUANTITIES.values
    ]
    encoded = [b"".join(map(encode_long, line)) for line in choices]
    amounts = np.array([quantity * price for _, quantity, price in choices])
    lengths = np.array([len(line) for line in encoded])
    # A row of bytes per choice, and which of them count: joining 20,000 lines is then one selection.
    width = int(lengths.max())
    table = np.frombuffer(b"".join(line.ljust(width, b"\0") for line in encoded), dtype=np.uint8).reshape(-1, width)
    counts = np.arange(width) < lengths[:, None]
    kinds, size = len(QUANTITIES.values), len(world.products)
    draw = np.random.default_rng(rng.getrandbits(64))
    rows = max(1, CHUNK_LINES // size)
    catalogue = np.tile(np.arange(size, dtype=np.int32), (rows, 1))
    while True:
        picked = draw.permuted(catalogue, axis=1).ravel() * kinds
        uniform = draw.random(len(picked), dtype=np.float32)
        for bound in QUANTITIES.bounds:
            picked += uniform >= bound
        data = table[picked][counts[picked]].tobytes()
        cuts = np.array(list(_cuts(rows, size, least, most, rng)))
        totals, places = (np.concatenate([[0], np.cumsum(values[picked])])[cuts] for values in (amounts, lengths))
        sums = (totals[:, 1] - totals[:, 0]).tolist()
        for count, amount, (begin, end) in zip((cuts[:, 1] - cuts[:, 0]).tolist(), sums, places.tolist(), strict=True):
            yield count, amount, data[begin:end]


def _cuts(rows: int, size: int, least: int, most: int, rng: Random) -> Iterator[tuple[int, int]]:
    """Each row of `size` lines cut into orders; what is left at the end of a row is too short for one."""
    random, spread = rng.random, most - least + 1
    for row in range(rows):
        begin, last = row * size, (row + 1) * size
        while True:
            end = begin + least + int(random() * spread)
            if end > last:
                break
            yield begin, end
            begin = end
