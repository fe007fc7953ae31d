//! The lines of a report: what each customer and meter has in the ledger, in batches and at the provider, and the name of each difference.

use super::{PAGE, Reconciler, some};
use crate::billing::Untold;
use crate::decision::billing::State;
use crate::decision::billing::delivery::ReasonCode;
use crate::decision::billing::exact::Exact;
use crate::decision::billing::reconcile::{self as rules, Code};
use crate::decision::billing::report::{Between, Line, Named};
use crate::decision::id::{MeterId, WorkspaceId};
use crate::decision::meter::{Factor, Meter};
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::billing::MeteredQuery;
use crate::ledger::told::{Scope, Stretch, ToldAccount, WindowSum};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// How long after its recording an entry is in a batch for sure: every pass has been over it by then.
const COLLECTED_SECONDS: i64 = 90_000;

/// What a carried fraction is.
const CARRIED: &str = "carried from batch to batch: fractions, and what is owed back";

/// A line's place: the customer, or the workspace that has none; and the event name.
type Place = (Option<String>, Option<WorkspaceId>, String);
type Lines = BTreeMap<Place, Line>;

/// The stretch in whole windows, and in whole minutes, which is as fine as providers sum.
pub(super) fn stretch(scope: &Scope, window_seconds: i64) -> (Timestamp, Timestamp) {
    let length = window_seconds.max(rules::MINUTE_SECONDS) * 1_000_000;
    let down = |at: Timestamp| at.plus_micros(-at.micros().rem_euclid(length));
    (down(scope.from), down(scope.to.plus_micros(length - 1)))
}

impl Reconciler {
    pub(super) async fn lines(&self, scope: &Scope, from: Timestamp, to: Timestamp) -> Result<Vec<Line>, LedgerError> {
        let stretch = Stretch {
            workspace: scope.workspace.clone(),
            from,
            to,
        };
        let mut lines = Lines::new();
        let mut customers = HashMap::new();
        // Twice the batches, and between them their entries: what is sealed meanwhile is no difference.
        let before = sealed(&self.ledger.window_sums(&stretch).await?);
        let members = self.ledger.member_sums(&stretch).await?;
        let sums = self.ledger.window_sums(&stretch).await?;
        let after = sealed(&sums);
        for sum in sums {
            if scope.meter.as_ref().is_none_or(|meter| *meter == sum.meter) {
                let customer = self.customer(&mut customers, &sum.workspace).await?;
                add_batches(line(&mut lines, customer, &sum.workspace, &sum.event_name), sum);
            }
        }
        // Those that have ended meanwhile, too: what was used before is theirs.
        let ended = self.ledger.meters_ended(stretch.from).await?;
        let is_gone = |meter: &&Meter| self.meters.iter().all(|there| there.id != meter.id);
        let meters = self.meters.iter().chain(ended.iter().filter(is_gone));
        for meter in meters.filter(|meter| scope.meter.as_ref().is_none_or(|wanted| *wanted == meter.id)) {
            self.add_ledger(&mut lines, &mut customers, meter, &stretch).await?;
        }
        for sum in members
            .iter()
            .filter(|sum| scope.meter.as_ref().is_none_or(|meter| *meter == sum.meter))
        {
            let key = (sum.workspace.clone(), sum.meter.clone(), sum.event_name.clone());
            let batches = |sums: &Sealed| sums.get(&key).copied().unwrap_or_default();
            if ![batches(&before).0, batches(&after).0].contains(&sum.counted) {
                let customer = self.customer(&mut customers, &sum.workspace).await?;
                let line = line(&mut lines, customer, &sum.workspace, &sum.event_name);
                let (counted, factor) = batches(&after);
                let value = factor.map_or(Exact::ZERO, |factor| Exact::of(factor, sum.counted - counted));
                tell(
                    line,
                    Between::LedgerAndBatches,
                    Code::Unexplained,
                    value,
                    0,
                    "the entries of batches do not count what the batches say",
                );
            }
        }
        if self.provider.terms().sends {
            self.add_provider(&mut lines, scope, &stretch).await?;
        }
        for line in lines.values_mut() {
            line.differences
                .retain(|named| named.value != Exact::ZERO || named.code.is_told_of_nothing());
            line.differences.sort_by_key(|named| (named.between, named.code));
            line.is_explained = line.differences.iter().all(|named| named.code != Code::Unexplained);
        }
        Ok(lines.into_values().collect())
    }

    async fn customer(
        &self,
        known: &mut HashMap<WorkspaceId, Option<String>>,
        workspace: &WorkspaceId,
    ) -> Result<Option<String>, LedgerError> {
        if let Some(customer) = known.get(workspace) {
            return Ok(customer.clone());
        }
        let found = self.ledger.workspace(workspace).await?;
        let customer = found.and_then(|workspace| workspace.stripe_customer_id);
        known.insert(workspace.clone(), customer.clone());
        Ok(customer)
    }

    /// What the entries of a meter come to, and what of that is in no batch.
    async fn add_ledger(
        &self,
        lines: &mut Lines,
        customers: &mut HashMap<WorkspaceId, Option<String>>,
        meter: &Meter,
        stretch: &Stretch,
    ) -> Result<(), LedgerError> {
        let query = MeteredQuery {
            meter: meter.clone(),
            workspace: stretch.workspace.clone(),
            from: stretch.from,
            to: stretch.to,
        };
        for metered in self.ledger.metered(&query).await? {
            let customer = self.customer(customers, &metered.workspace).await?;
            let line = line(lines, customer, &metered.workspace, &meter.event_name);
            add_meter(line, meter);
            let uncollected = Exact::of(meter.factor, metered.uncollected);
            line.ledger = line.ledger.plus(uncollected);
            tell(
                line,
                Between::LedgerAndBatches,
                Code::NotYetSealed,
                uncollected,
                0,
                "recorded, and in no batch yet",
            );
        }
        let old = Stretch {
            to: stretch.to.min(self.clock.now().plus_seconds(-COLLECTED_SECONDS)),
            ..stretch.clone()
        };
        for forgotten in self.ledger.forgotten(meter, &old).await? {
            let customer = self.customer(customers, &forgotten.workspace).await?;
            let line = line(lines, customer, &forgotten.workspace, &meter.event_name);
            add_meter(line, meter);
            let value = Exact::of(meter.factor, forgotten.counted);
            let detail = format!(
                "{} entries are in no batch although they were recorded more than a day ago",
                forgotten.entries
            );
            tell(line, Between::LedgerAndBatches, Code::Unexplained, value, 0, &detail);
        }
        Ok(())
    }

    /// What the provider has summed up of each customer and event name that it was told of.
    async fn add_provider(&self, lines: &mut Lines, scope: &Scope, stretch: &Stretch) -> Result<(), LedgerError> {
        let mut after: Option<ToldAccount> = None;
        loop {
            let page = self.ledger.told_accounts(stretch, after.as_ref(), PAGE).await?;
            for account in &page {
                self.add_account(lines, scope, stretch, account).await?;
            }
            match page.last().filter(|_| page.len() == PAGE) {
                Some(last) => after = Some(last.clone()),
                None => break,
            }
        }
        if !self.provider.terms().needs_customer {
            for line in lines.values_mut().filter(|line| line.provider.is_none()) {
                let detail = "the provider tells no sums, so what it acknowledged is all that is known";
                tell(
                    line,
                    Between::BatchesAndProvider,
                    Code::ProviderHasNoSummaries,
                    Exact::ZERO,
                    0,
                    detail,
                );
            }
        }
        Ok(())
    }

    async fn add_account(&self, lines: &mut Lines, scope: &Scope, stretch: &Stretch, account: &ToldAccount) -> Result<(), LedgerError> {
        let batches = self.ledger.told_batches(account, stretch.from, stretch.to).await?;
        let is_wanted = |meter| scope.meter.as_ref().is_none_or(|wanted| wanted == meter);
        let Some(first) = batches.iter().find(|batch| is_wanted(&batch.meter)) else {
            return Ok(());
        };
        // Asked after the batches were read: what is acknowledged in between is there and not yet told, as if on its way.
        let answer = self.summed(&first.workspace, account, stretch.from, stretch.to).await;
        let line = line(lines, Some(account.customer.clone()), &first.workspace, &account.event_name);
        line.told = i64::try_from(rules::acknowledged(&batches)).unwrap_or(i64::MAX);
        let between = Between::BatchesAndProvider;
        match answer {
            Ok(Some(provider)) => {
                line.provider = Some(provider);
                // Read again where it differs: something may have been answered while it was asked.
                let again = match rules::compare(&batches, provider, self.clock.now()) {
                    Some(_) => self.ledger.told_batches(account, stretch.from, stretch.to).await?,
                    None => return Ok(()),
                };
                line.told = i64::try_from(rules::acknowledged(&again)).unwrap_or(i64::MAX);
                // What was sent again may have been told as of this stretch before.
                let elsewhere = self.ledger.told_elsewhere(account, stretch.from, stretch.to).await?;
                if let Some(difference) = rules::compare_beside(&again, &elsewhere, provider, self.clock.now()) {
                    let count = i64::try_from(difference.batches.len()).unwrap_or(i64::MAX);
                    let detail = match difference.code {
                        Code::Settling => "acknowledged within the hour; the provider may not have summed it up yet",
                        Code::InFlight => "on its way, and there already",
                        Code::Unknown => "of unknown fate, and there: it is acknowledged as soon as the sum says which one it is",
                        Code::SentAgain => {
                            "sent again as another event, and the provider counts the first one too: cancel one of them there"
                        }
                        _ => "the provider's sum is not what it acknowledged, and no batch accounts for it",
                    };
                    tell(line, between, difference.code, whole(difference.value), count, detail);
                    if let Some(named) = line.differences.last_mut() {
                        named.batch_ids = some(difference.batches);
                    }
                }
            }
            Ok(None) => tell(
                line,
                between,
                Code::ProviderHasNoSummaries,
                Exact::ZERO,
                0,
                "the provider tells no sums",
            ),
            Err(untold) => {
                let (code, value) = match untold {
                    Untold::CustomerUnknown => (Code::CustomerUnknown, Exact::ZERO.minus(line.told)),
                    Untold::MeterUnknown => (Code::MeterUnknown, Exact::ZERO.minus(line.told)),
                    Untold::NoAnswer(_) => (Code::ProviderDidNotAnswer, Exact::ZERO),
                };
                tell(line, between, code, value, 0, &untold.to_string());
            }
        }
        Ok(())
    }
}

fn whole(value: i64) -> Exact {
    Exact::ZERO.minus(value.saturating_neg())
}

fn line<'a>(lines: &'a mut Lines, customer: Option<String>, workspace: &WorkspaceId, event_name: &str) -> &'a mut Line {
    let alone = customer.is_none().then(|| workspace.clone());
    let line = match lines.entry((customer.clone(), alone, event_name.to_owned())) {
        Entry::Occupied(there) => there.into_mut(),
        Entry::Vacant(place) => place.insert(Line {
            customer,
            event_name: event_name.to_owned(),
            meters: Vec::new(),
            workspaces: Vec::new(),
            ledger: Exact::ZERO,
            batches: 0,
            acknowledged: 0,
            told: 0,
            provider: None,
            differences: Vec::new(),
            is_explained: true,
        }),
    };
    if !line.workspaces.contains(workspace) {
        line.workspaces.push(workspace.clone());
    }
    line
}

fn add_meter(line: &mut Line, meter: &Meter) {
    if !line.meters.contains(&meter.id) {
        line.meters.push(meter.id.clone());
    }
}

fn add_batches(line: &mut Line, sum: WindowSum) {
    let counted = Exact::of(sum.factor, sum.counted);
    if !line.meters.contains(&sum.meter) {
        line.meters.push(sum.meter);
    }
    line.ledger = line.ledger.plus(counted);
    line.batches = line.batches.saturating_add(sum.value);
    let between = Between::LedgerAndBatches;
    let (code, detail) = match (sum.state, sum.reason) {
        (State::Acknowledged, _) => {
            line.acknowledged = line.acknowledged.saturating_add(sum.value);
            (Code::CarriedFraction, CARRIED)
        }
        (State::Open, _) => (Code::NotYetSealed, "in a batch that is still open"),
        (State::Sealed | State::Sending, _) => (Code::InFlight, "sealed, or on its way"),
        (State::Rejected, _) => (
            Code::Rejected,
            "the provider said no: see the batches' reasons, then send them again",
        ),
        (State::Unknown, _) => (Code::Unknown, "nobody knows whether the provider has it"),
        (State::Unbillable, Some(ReasonCode::TooOld)) => (Code::TooOld, "used longer ago than the provider takes"),
        (State::Unbillable, _) => (Code::Unbillable, "it cannot be told: see the batches' reasons"),
    };
    let carried = match sum.state {
        State::Open => Exact::ZERO,
        _ => counted.minus(sum.value),
    };
    tell(line, between, Code::CarriedFraction, carried, 0, CARRIED);
    match sum.state {
        State::Acknowledged => {}
        State::Open => tell(line, between, code, counted, sum.batches, detail),
        // What takes something back counts nothing, and is worth something all the same.
        _ => tell(line, between, code, whole(sum.value), sum.batches, detail),
    }
}

/// Adds to the difference of this name, or begins it.
fn tell(line: &mut Line, between: Between, code: Code, value: Exact, batches: i64, detail: &str) {
    let same = line
        .differences
        .iter_mut()
        .find(|named| named.between == between && named.code == code && named.detail == detail);
    match same {
        Some(named) => {
            named.value = named.value.plus(value);
            named.batches += batches;
        }
        None => line.differences.push(Named {
            between,
            code,
            value,
            batches,
            batch_ids: Vec::new(),
            detail: detail.to_owned(),
        }),
    }
}

/// What sealed batches count, by workspace, meter and event name, and at which factor.
type Sealed = HashMap<(WorkspaceId, MeterId, String), (i64, Option<Factor>)>;

fn sealed(sums: &[WindowSum]) -> Sealed {
    let mut counted = Sealed::new();
    for sum in sums.iter().filter(|sum| sum.state != State::Open) {
        let key = (sum.workspace.clone(), sum.meter.clone(), sum.event_name.clone());
        let found = counted.entry(key).or_default();
        found.0 += sum.counted;
        found.1 = Some(sum.factor);
    }
    counted
}
