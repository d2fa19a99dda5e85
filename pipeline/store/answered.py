"""What an output directory has answered, for runs elsewhere that do not see it."""

from pathlib import Path

from pipeline.config.run_config import RunConfig
from pipeline.errors import InputError
from pipeline.files import disk_errors
from pipeline.store.contents import decoding
from pipeline.store.keyset import KeySet
from pipeline.store.ledger.sqlite import SqliteLedger
from pipeline.store.opening import LEDGER_NAME
from pipeline.store.rerun import RerunPolicy
from pipeline.store.selection import Selection


def answered_keys(out: Path, config: RunConfig, policy: RerunPolicy) -> KeySet:
    """The rows that a run with this policy does not ask again.

    Raises InputError where the policy does not name rows by their state alone.
    """
    with disk_errors(out), SqliteLedger(out / LEDGER_NAME) as ledger, decoding(ledger):
        selection = Selection(ledger, policy, prompt_names=config.prompt_names, config_hash=config.config_hash())
        if selection.is_exclusive or not policy.is_by_state:
            raise InputError(
                "`engine.kind=ray` asks what OUT lacks, and with `retry_failed=`, `retry_kind=`, `retry_status=` or "
                "`refresh=` rows again; for other words about rows run the same command with `engine.kind=local`"
            )
        return KeySet(ledger.settled_prefixes(selection.passed_over()))
