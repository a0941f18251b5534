"""The contract suites: what every implementation of a role must do, as tests to inherit.

    from dingo.testing.suites import BrokerSuite

    class TestMine(BrokerSuite):
        def broker(self, tmp_path): return MyBroker(...)     # with producer(), worker() and store()

Each test states one promise of `dingo.contracts`. They wait for facts; none depends on how fast a machine is.
"""

from dingo.testing.suites.backend import BackendSuite
from dingo.testing.suites.broker import BrokerSuite
from dingo.testing.suites.herald import HeraldSuite
from dingo.testing.suites.ledger import LedgerSuite
from dingo.testing.suites.making import PATIENCE, Backend, Broker, envelope, report
from dingo.testing.suites.parts import IDMakerSuite, InvokerSuite, MarshallerSuite

__all__ = [
    "PATIENCE", "Backend", "BackendSuite", "Broker", "BrokerSuite", "HeraldSuite", "IDMakerSuite", "InvokerSuite",
    "LedgerSuite", "MarshallerSuite", "envelope", "report",
]  # fmt: skip
