//! A write and a read of each store, for `weir doctor`. What is written is out of the way of every customer, and is forgotten within a day.

use crate::clock::Clock;
use crate::counters::{Applied, Counters, CountersError, HoldOutcome, HoldRequest, Progress};
use crate::decision::amount::Amounts;
use crate::decision::id::{RequestId, ReservationId, WorkspaceId};
use crate::decision::rung::Rung;
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use crate::ledger::{KeptAnswer, Ledger, LedgerError};

/// The workspace of holds that test; without counters, so nothing is counted.
const WORKSPACE: &str = "weir.doctor";
/// How long such a hold lives if its end gets lost.
const HOLD_SECONDS: i64 = 5;

/// Whether the ledger says what it was told. The answer that it keeps is one that nobody asks for.
pub async fn ledger(ledger: &dyn Ledger, clock: &dyn Clock) -> Result<bool, LedgerError> {
    let key = clock.uuid().as_u128();
    let answer = KeptAnswer {
        fingerprint: key,
        status: 200,
        content_type: "text/plain".to_owned(),
        body: "a test of the ledger".to_owned(),
        at: clock.now(),
    };
    let before = clock.now().plus_seconds(-1);
    ledger.answer_once(key, Some(answer.clone()), before).await?;
    Ok(ledger.answer_once(key, None, before).await? == Some(answer))
}

/// Whether a hold of its own is taken, found, ended and remembered.
pub async fn counters(counters: &dyn Counters, clock: &dyn Clock) -> Result<bool, CountersError> {
    let named = || {
        let key = format!("doctor-{}", clock.uuid().simple());
        Ok((WorkspaceId::parse(WORKSPACE)?, RequestId::parse(&key)?))
    };
    let (workspace, key) = named().map_err(|why: String| CountersError {
        act: "be tested",
        cause: why.into(),
    })?;
    let now = clock.now();
    let request = request(workspace.clone(), ReservationId::derive(&workspace, &key), now);
    let taken = counters.hold(&request).await?;
    let found = counters.find(request.reservation, now).await?;
    let end = Applied {
        rows: Vec::new(),
        reservation: Some((request.reservation, Progress::Ended(End::Released))),
        purses: Vec::new(),
    };
    counters.apply(&workspace, &end, &[], &[], now).await?;
    let ended = counters.find(request.reservation, now).await?;
    Ok(matches!(taken, HoldOutcome::Held { .. })
        && found.is_some_and(|record| record.end.is_none() && record.workspace == workspace)
        && ended.is_some_and(|record| record.end == Some(End::Released)))
}

fn request(workspace: WorkspaceId, reservation: ReservationId, now: Timestamp) -> HoldRequest {
    HoldRequest {
        workspace,
        reservation,
        fingerprint: 1,
        counters: Vec::new(),
        purses: Vec::new(),
        named_since: now,
        rungs: vec![Rung {
            needs: Amounts::ZERO,
            output: 0,
            cap: None,
            limits: Vec::new(),
            expires_at: now.plus_seconds(HOLD_SECONDS),
        }],
        open_max: u32::MAX,
        charge_on_expiry: false,
        tell_on_expiry: false,
        context: Default::default(),
        now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MovableClock;
    use crate::counters::memory::MemoryCounters;
    use crate::ledger::sqlite::SqliteLedger;

    #[tokio::test]
    async fn good_stores_pass_and_keep_nothing_open() {
        let clock = MovableClock::at(Timestamp::from_micros(1_767_225_600_000_000));
        let store = MemoryCounters::new();
        assert!(counters(&store, &clock).await.expect("counters"));
        assert_eq!(store.open().await.expect("open"), 0);
        let directory = tempfile::tempdir().expect("a directory");
        let sqlite = SqliteLedger::open(directory.path()).await.expect("a ledger");
        assert!(ledger(&sqlite, &clock).await.expect("ledger"));
    }
}
