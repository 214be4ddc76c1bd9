"""One seed run: reference data first, then orders and reviews, with their labels beside the ledger."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from data_generator.entities import Draft
from data_generator.ledger_store import LedgerStore
from data_generator.load.pacing import MAX_BATCH
from data_generator.model import Model, Send
from data_generator.run import Report, Run
from data_generator.seed.fixtures import Fixtures
from data_generator.seed.plan import Reached, SeedScenario
from data_generator.status import Status
from data_platform_core.contracts import SEED_SOURCE, load_contracts
from data_platform_core.errors import ConfigurationError
from data_platform_core.naming import labels_key
from data_platform_core.settings import Settings

#: One seed run at a time: two would assign the same numbers.
PRODUCER_ID = 0
#: What a seed reserves numbers for, records/s.
_RATE = 5_000
#: In the ledger's bucket: the assigned numbers, so that --append continues above them.
_REACHED_KEY = "seed/reached.json"
_LABELS = pa.schema(
    [("order_id", pa.string()), ("profile_id", pa.int64()), ("label", pa.string()), ("pattern", pa.string())]
)


class SeedModel(Model):
    """Gives fixtures their envelope."""

    source = SEED_SOURCE
    fixtures: Fixtures

    def catalogue(self, now_ms: int) -> Iterator[Send]:
        """Products and customers."""
        for fixture in self.fixtures.initial():
            yield self.record(fixture.entity, fixture.draft, fixture.event_ts, now_ms)

    def record(self, entity: str, draft: Draft, event_ts: int, produced_ts: int) -> Send:
        """The next send of an entity."""
        return self._good(self._index[entity], draft, event_ts, produced_ts)


class SeedRun(Run):
    """A run of fixtures."""

    model_kind = SeedModel

    def __init__(
        self,
        settings: Settings,
        scenario: SeedScenario,
        run_id: str,
        append: bool,
        report: Report = lambda status: None,
    ) -> None:
        super().__init__(settings, scenario.scenario(), run_id, PRODUCER_ID, report)
        self._seed, self._append = scenario, append
        self._objects = LedgerStore(settings.object_store, run_id, PRODUCER_ID)

    def fill(self) -> Status:
        """Send all, or until `stop`. Raises UserError subclasses."""
        reached = self._reached()
        base = reached if self._append else Reached()
        fixtures = Fixtures(self._seed, base)
        traffic = fixtures.traffic()
        self.status.planned = sum(1 for _ in fixtures.initial()) + len(traffic)
        with self._open(load_contracts(), _RATE) as (model, sink, ledger):
            assert isinstance(model, SeedModel)
            # Assigned before they are sent: a killed run's numbers are not reused.
            self._objects.put(_REACHED_KEY, reached.after(base, self._seed.counts).model_dump_json().encode())
            self._put_labels(fixtures)
            model.fixtures = fixtures
            self._send_catalogue(model, sink, ledger)
            self._phase("sending")
            produced_ms = int(time.time() * 1000)
            for begin in range(0, len(traffic), MAX_BATCH):
                if self._stopping:
                    break
                ledger.tick(MAX_BATCH, sink.poll)
                for one in traffic[begin : begin + MAX_BATCH]:
                    self._send(model, sink, model.record(one.entity, one.draft, one.event_ts, produced_ms))
                sink.poll()
                self._look(sink)
        return self.status

    def _reached(self) -> Reached:
        content = self._objects.get(_REACHED_KEY)
        try:
            return Reached.model_validate_json(content) if content else Reached()
        except ValidationError:
            raise ConfigurationError(
                f"{_REACHED_KEY} of the ledger's bucket is not what a seed writes; put back what it was, "
                "or delete it to begin with number 1"
            ) from None

    def _put_labels(self, fixtures: Fixtures) -> None:
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(fixtures.labels(), schema=_LABELS), buffer, compression="zstd")
        self._objects.put_new(labels_key(self.status.run_id), buffer.getvalue())
