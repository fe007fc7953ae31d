//! Counters in Redis, shared by all nodes of a deployment: one script for each step, so a step is atomic and costs one round trip.
//! A hold is asked of a short script first, together with others that come at the same moment; it leaves whatever is out of the ordinary to a
//! second one, and has changed nothing by then.
//!
//! All keys of a workspace lie in one slot, of a single server or of a cluster. The scripts are in `scripts/`; `store_v4.lua` says what is
//! kept. Nothing here is the truth: whatever a server loses, brings back or forgets is found out by comparison and read from the ledger again.
//!
//! - *Epoch*: each script knows the replication id of its process, which every process draws anew when it becomes primary. A group that bears
//!   another one was written by another process: it is not live until it is rebuilt. The short script is told it by its caller for a few
//!   milliseconds after it was looked up, see `call.rs`; all others look it up.
//! - *Brief*: one field of a group says all that the short script has to know of it. Whoever changes the group or the index keeps it right, or
//!   drops it, and then the long script decides until it has made a new one.
//! - *Generation*: a group that is missing begins a new one. A hold counts only in the generation in which it was taken.
//! - *Adoption*: reservations that came back with an old copy are compared with the ledger before their workspace admits anything.

mod beside;
mod call;
mod copying;
mod door;
mod due;
mod forgetting;
mod gather;
mod hold;
mod inspect;
mod keys;
mod link;
mod many;
mod pack;
mod plain;
mod reply;
mod request;
mod rounds;
mod run;
mod script;
mod settings;
#[cfg(test)]
mod tests;
mod walk;

pub use beside::{Beside, OwnScript};
pub use settings::{RedisSettings, Unfit};

use super::run::{ChildOutcome, ChildRequest};
use super::{
    Applied, Begun, Claim, Copying, Counters, CountersError, Extended, HoldOutcome, HoldRequest, KnownGroup, Progress,
    REBUILD_CLOCKS_MILLIS, REBUILD_JOIN_MILLIS, REBUILD_JOIN_MILLIS_MAX, Rebuilt, Record,
};
use crate::decision::amount::Amounts;
use crate::decision::counter::{Balance, Counter, Whose};
use crate::decision::finding::Finding;
use crate::decision::grant::PurseUse;
use crate::decision::id::{ReservationId, WorkspaceId, slot};
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use async_trait::async_trait;
use call::{Call, CallError, Clocks, unknown_word};
use due::Ring;
use futures_util::stream::{BoxStream, StreamExt};
use gather::Gather;
use keys::{Columns, Keys};
use link::Link;
use pack::Pack;
use reply::{Reply, Unexpected};
use request::{pack_purses, pack_read, pack_rows, pack_uses};
use script::Script;
use std::sync::{Arc, Mutex};

/// How much longer others wait for a rebuild, for each reservation that it compares with the ledger.
const ADOPT_MICROS: i64 = 1_000;

/// The counter store of a deployment.
pub struct RedisCounters {
    link: Arc<Link>,
    keys: Keys,
    clocks: Arc<Clocks>,
    gather: Arc<Gather>,
    settings: RedisSettings,
    /// Where the next round of what is due begins.
    ring: Mutex<Ring>,
}

fn failed(act: &'static str) -> impl Fn(CallError) -> CountersError {
    move |cause| CountersError {
        act,
        cause: Box::new(cause),
    }
}

fn refused(act: &'static str, why: &'static str) -> CountersError {
    CountersError { act, cause: why.into() }
}

impl RedisCounters {
    /// Connects, and refuses servers that could not keep what they are given.
    pub async fn connect(settings: RedisSettings) -> Result<Self, CountersError> {
        let failed = |cause: Box<dyn std::error::Error + Send + Sync>| CountersError { act: "connect", cause };
        let link = Link::new(&settings).map_err(|error| failed(error.into()))?;
        for info in link.info().await.map_err(|error| failed(settings.explain(error)))? {
            settings::check(&info).map_err(|unfit| failed(unfit.into()))?;
        }
        Ok(Self::over(Arc::new(link), settings))
    }

    fn over(link: Arc<Link>, settings: RedisSettings) -> Self {
        let clocks = Arc::new(Clocks::new(settings.ahead_max));
        Self {
            gather: Gather::new(link.clone(), clocks.clone(), settings.response_timeout),
            link,
            keys: Keys::new(&settings.prefix),
            clocks,
            settings,
            ring: Mutex::new(Ring::new()),
        }
    }

    /// Another store with the same connections.
    #[cfg(test)]
    fn with_prefix(&self, prefix: &str) -> Self {
        let settings = RedisSettings {
            prefix: prefix.to_owned(),
            ..self.settings.clone()
        };
        Self::over(self.link.clone(), settings)
    }

    async fn send(&self, call: &Call<'_>) -> Result<(String, Reply), CallError> {
        call.send(&self.link, &self.clocks, self.settings.response_timeout).await
    }

    fn of_workspace<'a>(&self, script: &'a Script, workspace: &WorkspaceId, now: Timestamp) -> Call<'a> {
        let mut call = Call::new(script, slot(workspace), now);
        call.keys.push(self.keys.index(call.tag));
        call
    }

    /// With the keys of these groups.
    fn with_groups(&self, call: &mut Call<'_>, workspace: &WorkspaceId, columns: &Columns<'_>) {
        call.keys.extend(columns.texts().map(|column| self.keys.group(workspace, column)));
    }

    fn of_reservation<'a>(&self, script: &'a Script, id: ReservationId, now: Timestamp) -> Call<'a> {
        let mut call = Call::new(script, id.slot(), now);
        call.keys.push(self.keys.index(call.tag));
        call.keys.push(self.keys.reservation(id));
        call.pack.text(keys::hex(id).as_bytes());
        call
    }

    async fn try_balances(
        &self,
        workspace: &WorkspaceId,
        counters: &[Counter],
        purses: &[PurseUse],
        named_since: Timestamp,
        now: Timestamp,
    ) -> Result<Result<Vec<Balance>, Vec<Whose>>, CallError> {
        let columns = Columns::of(counters.iter());
        let mut call = self.of_workspace(&script::BALANCES, workspace, now);
        self.with_groups(&mut call, workspace, &columns);
        call.pack.text(workspace.as_str().as_bytes());
        call.pack.text(keys::slot_text(workspace).as_bytes()).moment(named_since);
        call.pack.texts(columns.texts());
        pack_read(&mut call.pack, counters, &columns, now);
        pack_uses(&mut call.pack, purses, counters);
        let (word, mut reply) = self.send(&call).await?;
        match word.as_str() {
            "known" => Ok(Ok(reply.granted_balances(&columns.places(counters))?)),
            "unready" => Ok(Err(columns.named(&reply.texts()?))),
            other => Err(unknown_word(other)),
        }
    }

    async fn try_find(&self, id: ReservationId, now: Timestamp) -> Result<Option<Record>, CallError> {
        let (word, mut reply) = self.send(&self.of_reservation(&script::FIND, id, now)).await?;
        match word.as_str() {
            "record" => Ok(Some(reply.record(id)?)),
            "none" => Ok(None),
            other => Err(unknown_word(other)),
        }
    }

    async fn try_claim(&self, id: ReservationId, claim: Claim, now: Timestamp) -> Result<Result<Option<Record>, Vec<Whose>>, CallError> {
        let mut call = self.of_reservation(&script::CLAIM, id, now);
        match claim {
            Claim::UpTo(amounts) => call.pack.int(1).amounts(amounts),
            Claim::Final => call.pack.int(2).amounts(Amounts::ZERO),
        };
        let (word, mut reply) = self.send(&call).await?;
        match word.as_str() {
            "record" => Ok(Ok(Some(reply.record(id)?))),
            "none" => Ok(Ok(None)),
            "unready" => Ok(Err(vec![Whose::Workspace])),
            other => Err(unknown_word(other)),
        }
    }

    async fn try_apply(
        &self,
        workspace: &WorkspaceId,
        applied: &Applied,
        (read, purses): (&[Counter], &[PurseUse]),
        epoch: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<Option<Balance>>, CallError> {
        let columns = Columns::of(applied.rows.iter().map(|row| &row.counter).chain(read));
        let mut call = self.of_workspace(&script::APPLY, workspace, now);
        // A reservation of another workspace is not in these keys, and is left alone.
        let reservation = applied.reservation.filter(|(id, _)| id.slot() == slot(workspace));
        let key = reservation.map_or_else(|| call.keys[0].clone(), |(id, _)| self.keys.reservation(id));
        call.keys.push(key);
        self.with_groups(&mut call, workspace, &columns);
        call.pack.text(workspace.as_str().as_bytes());
        call.pack.text(keys::slot_text(workspace).as_bytes()).texts(columns.texts());
        pack_rows(&mut call.pack, &applied.rows, Some(&columns), now);
        match reservation {
            Some((id, progress)) => {
                call.pack.text(keys::hex(id).as_bytes());
                pack_progress(&mut call.pack, progress);
            }
            None => {
                call.pack.no().int(0).no();
            }
        }
        call.pack.list(|list| {
            for counter in read {
                list.int(columns.place(counter)).text(keys::field(counter).as_bytes());
                list.int(i64::from(request::is_dropped(counter, now)));
            }
        });
        pack_purses(&mut call.pack, &applied.purses);
        pack_uses(&mut call.pack, purses, read);
        match epoch {
            Some(epoch) => call.pack.text(epoch.as_bytes()),
            None => call.pack.no(),
        };
        let (word, mut reply) = self.send(&call).await?;
        match word.as_str() {
            "applied" => Ok(reply.balances_if_known()?),
            "other" => Err(CallError::Replaced),
            other => Err(unknown_word(other)),
        }
    }

    async fn try_extend(&self, id: ReservationId, until: Timestamp, now: Timestamp) -> Result<Extended, CallError> {
        let mut call = self.of_reservation(&script::EXTEND, id, now);
        call.pack.moment(until);
        let (word, mut reply) = self.send(&call).await?;
        match word.as_str() {
            "until" => Ok(Extended::Until(reply.moment()?)),
            "ended" => Ok(Extended::Ended(reply.end()?.unwrap_or(End::Expired))),
            "none" => Ok(Extended::Unknown),
            other => Err(unknown_word(other)),
        }
    }

    /// The keys of a group and of the workspace's own.
    fn of_group<'a>(&self, script: &'a Script, workspace: &WorkspaceId, whose: &Whose, now: Timestamp) -> Call<'a> {
        let mut call = self.of_workspace(script, workspace, now);
        call.keys.push(self.keys.group(workspace, Whose::Workspace.column()));
        call.keys.push(self.keys.group(workspace, whose.column()));
        call.pack.text(workspace.as_str().as_bytes());
        call
    }

    async fn try_begin(&self, workspace: &WorkspaceId, whose: &Whose, now: Timestamp) -> Result<Begun, CallError> {
        let token: u64 = rand::random();
        let mut call = self.of_group(&script::BEGIN, workspace, whose, now);
        call.pack.text(keys::slot_text(workspace).as_bytes());
        call.pack.text(whose.column().as_bytes()).text(keys::token_text(token).as_bytes());
        call.pack.int(REBUILD_JOIN_MILLIS * 1_000).int(ADOPT_MICROS);
        call.pack.int(REBUILD_JOIN_MILLIS_MAX * 1_000).int(REBUILD_CLOCKS_MILLIS * 1_000);
        let (word, mut reply) = self.send(&call).await?;
        match word.as_str() {
            "wait" => Ok(Begun::Wait),
            "token" => {
                let text = reply.text()?;
                let token = text.parse().map_err(|_| Unexpected::of("a token", &text))?;
                let adopt = reply.texts()?.iter().map(|hex| reservation(hex)).collect::<Result<_, _>>()?;
                Ok(Begun::Started { token, adopt })
            }
            other => Err(unknown_word(other)),
        }
    }

    async fn try_finish(&self, workspace: &WorkspaceId, whose: &Whose, rebuilt: &Rebuilt<'_>, now: Timestamp) -> Result<bool, CallError> {
        let mut call = self.of_group(&script::FINISH, workspace, whose, now);
        call.pack
            .text(whose.column().as_bytes())
            .text(keys::token_text(rebuilt.token).as_bytes());
        pack_rows(&mut call.pack, rebuilt.rows, None, now);
        call.pack.list(|list| {
            let own = rebuilt.adopted.iter().filter(|(id, _)| id.slot() == slot(workspace));
            for (id, progress) in own {
                list.text(keys::hex(*id).as_bytes());
                pack_progress(list, *progress);
            }
        });
        pack_purses(&mut call.pack, rebuilt.purses);
        let (word, _) = self.send(&call).await?;
        match word.as_str() {
            "finished" => Ok(true),
            "refused" => Ok(false),
            other => Err(unknown_word(other)),
        }
    }
}

fn pack_progress(pack: &mut Pack, progress: Progress) {
    match progress {
        Progress::Used(amounts) => pack.int(0).amounts(amounts),
        Progress::Ended(end) => pack.int(end_place(end)).no(),
        Progress::EndedUsing(end, amounts) => pack.int(end_place(end)).amounts(amounts),
    };
}

fn end_place(end: End) -> i64 {
    match end {
        End::Settled => 1,
        End::Released => 2,
        End::Expired => 3,
    }
}

fn reservation(hex: &str) -> Result<ReservationId, Unexpected> {
    match u128::from_str_radix(hex, 16) {
        Ok(number) => Ok(ReservationId::from_bytes(number.to_be_bytes())),
        Err(_) => Err(Unexpected::of("the id of a reservation", hex)),
    }
}

#[async_trait]
impl Counters for RedisCounters {
    fn beside(&self) -> Option<Beside> {
        Some(self.open_beside())
    }

    async fn hold(&self, request: &HoldRequest) -> Result<HoldOutcome, CountersError> {
        request::check(request).map_err(|why| refused("hold", why))?;
        self.try_hold(request, rand::random()).await.map_err(failed("hold"))
    }

    async fn hold_child(&self, request: &ChildRequest) -> Result<ChildOutcome, CountersError> {
        request::check_rungs(&request.rungs).map_err(|why| refused("hold for a run", why))?;
        let answer = self.try_hold_child(request, rand::random()).await;
        answer.map_err(failed("hold for a run"))
    }

    async fn hold_many(&self, requests: &[HoldRequest]) -> Vec<Result<HoldOutcome, CountersError>> {
        self.holds_together(requests).await
    }

    async fn balances(
        &self,
        workspace: &WorkspaceId,
        counters: &[Counter],
        purses: &[PurseUse],
        named_since: Timestamp,
        now: Timestamp,
    ) -> Result<Result<Vec<Balance>, Vec<Whose>>, CountersError> {
        let answer = self.try_balances(workspace, counters, purses, named_since, now).await;
        answer.map_err(failed("read balances"))
    }

    async fn find(&self, reservation: ReservationId, now: Timestamp) -> Result<Option<Record>, CountersError> {
        self.try_find(reservation, now).await.map_err(failed("find a reservation"))
    }

    async fn claim(
        &self,
        reservation: ReservationId,
        claim: Claim,
        now: Timestamp,
    ) -> Result<Result<Option<Record>, Vec<Whose>>, CountersError> {
        self.try_claim(reservation, claim, now).await.map_err(failed("claim"))
    }

    async fn apply(
        &self,
        workspace: &WorkspaceId,
        applied: &Applied,
        read: &[Counter],
        purses: &[PurseUse],
        now: Timestamp,
    ) -> Result<Vec<Option<Balance>>, CountersError> {
        let answer = self.try_apply(workspace, applied, (read, purses), None, now).await;
        answer.map_err(failed("apply"))
    }

    async fn begin_copy(&self, now: Timestamp) -> Result<Copying, CountersError> {
        self.try_begin_copy(now).await.map_err(failed("tell what it has missed"))
    }

    async fn copy(&self, workspace: &WorkspaceId, applied: &Applied, copying: &Copying, now: Timestamp) -> Result<(), CountersError> {
        let answer = self.try_copy(workspace, applied, copying, now).await;
        answer.map_err(failed("take a copy"))
    }

    async fn end_copy(&self, copying: &Copying, until: Timestamp, now: Timestamp) -> Result<(), CountersError> {
        let answer = self.try_end_copy(copying, until, now).await;
        answer.map_err(failed("remember what it was given"))
    }

    async fn extend(&self, reservation: ReservationId, until: Timestamp, now: Timestamp) -> Result<Extended, CountersError> {
        self.try_extend(reservation, until, now).await.map_err(failed("extend"))
    }

    async fn free_at(
        &self,
        workspace: &WorkspaceId,
        counter: &Counter,
        ceiling: i64,
        room: i64,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, CountersError> {
        let answer = self.try_free_at(workspace, counter, (ceiling, room), now).await;
        answer.map_err(failed("tell when a budget frees up"))
    }

    async fn begin(&self, workspace: &WorkspaceId, whose: &Whose, now: Timestamp) -> Result<Begun, CountersError> {
        self.try_begin(workspace, whose, now).await.map_err(failed("begin a rebuild"))
    }

    async fn finish(&self, workspace: &WorkspaceId, whose: &Whose, rebuilt: &Rebuilt<'_>, now: Timestamp) -> Result<bool, CountersError> {
        let answer = self.try_finish(workspace, whose, rebuilt, now).await;
        answer.map_err(failed("finish a rebuild"))
    }

    async fn forget_rows(&self, now: Timestamp) -> Result<u64, CountersError> {
        self.try_forget_rows(now).await.map_err(failed("forget what was copied"))
    }

    fn known(&self) -> BoxStream<'_, Result<KnownGroup, CountersError>> {
        self.known_groups().boxed()
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Record>, CountersError> {
        self.try_due(now, limit).await.map_err(failed("name what is due"))
    }

    async fn inspect(&self, now: Timestamp) -> Result<Vec<Finding>, CountersError> {
        let infos = self.link.info().await.map_err(|error| failed("be inspected")(error.into()))?;
        Ok(infos.iter().flat_map(|info| inspect::findings(info, now)).collect())
    }

    async fn open(&self) -> Result<u64, CountersError> {
        self.try_open().await.map_err(failed("count open reservations"))
    }
}
