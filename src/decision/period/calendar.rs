//! A workspace's periods over time: the setting of now, and which earlier one each kind of period followed until when.
//!
//! A change of zone or anchor never touches the period it falls into. For each kind that period runs to its planned end E, and the next
//! one is from E to the end of the new setting's period around E: maybe short, but without a gap and without counting a moment twice.
//! A day hands over long before its year does, so each kind is kept by itself. E is stored, not worked out again: neither a later
//! change nor a newer time zone database moves a boundary that has been announced for it.

use super::super::time::Timestamp;
use super::setting::Setting;
use super::{Period, PeriodKind};
use serde::{Deserialize, Serialize};

/// How many changes each kind of period remembers. At one more the oldest is forgotten, and moments before it are counted by the setting
/// that followed it. What has been charged stays as it is, since counters bear their own bounds, and no current period can move.
pub const CALENDAR_CHANGES_MAX: usize = 32;
/// How long changes are remembered after they came into force: the year that may have begun with one, and more than a year in which
/// late usage, corrections and reports may ask for the time before.
pub const CALENDAR_REMEMBERED_DAYS: i64 = 800;

/// When the periods of a workspace begin and end.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Calendar {
    setting: Setting,
    /// Empty for most workspaces. Those of one kind are in the order of time.
    handovers: Vec<Handover>,
}

/// Periods of `kind` followed `setting` until then, and what came next from then on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Handover {
    kind: PeriodKind,
    until: Timestamp,
    setting: Setting,
}

impl Calendar {
    pub fn new(setting: Setting) -> Self {
        Self {
            setting,
            handovers: Vec::new(),
        }
    }

    /// What was set last. A period that began before the change may still follow an earlier setting.
    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    /// The period of `kind` that `at` lies in.
    pub fn period(&self, kind: PeriodKind, at: Timestamp) -> Period {
        let mut setting = &self.setting;
        let (mut from, mut until) = (Timestamp::MIN, Timestamp::MAX);
        for handover in self.handovers.iter().filter(|handover| handover.kind == kind) {
            if handover.until <= at {
                from = from.max(handover.until);
            } else if handover.until < until {
                until = handover.until;
                setting = &handover.setting;
            }
        }
        let period = setting.period(kind, at);
        Period {
            start: period.start.max(from),
            end: period.end.min(until),
        }
    }

    /// Sets another zone or anchor at the moment `at`. Each kind follows it from its next period on; of several changes within one
    /// period the last one wins, and the others never come into force.
    pub fn change(&mut self, setting: Setting, at: Timestamp) {
        let horizon = at.plus_seconds(-CALENDAR_REMEMBERED_DAYS * 86_400);
        self.handovers.retain(|handover| handover.until > horizon);
        for kind in PeriodKind::ALL {
            self.hand_over(kind, &setting, at);
        }
        self.setting = setting;
    }

    fn hand_over(&mut self, kind: PeriodKind, to: &Setting, at: Timestamp) {
        match self
            .handovers
            .iter()
            .rposition(|handover| handover.kind == kind && handover.until > at)
        {
            // An earlier change still waits for the end of this period; unless it is taken back, this one comes in its place.
            Some(waiting) if self.handovers[waiting].setting.agrees(to, kind) => {
                self.handovers.remove(waiting);
            }
            Some(_) => {}
            None if self.setting.agrees(to, kind) => {}
            None => self.push(Handover {
                kind,
                until: self.setting.period(kind, at).end,
                setting: self.setting.clone(),
            }),
        }
    }

    fn push(&mut self, handover: Handover) {
        let of_kind = |other: &Handover| other.kind == handover.kind;
        if self.handovers.iter().filter(|other| of_kind(other)).count() >= CALENDAR_CHANGES_MAX
            && let Some(oldest) = self.handovers.iter().position(of_kind)
        {
            self.handovers.remove(oldest);
        }
        self.handovers.push(handover);
    }

    /// What is remembered: which kind followed an earlier setting until when.
    #[cfg(test)]
    pub(super) fn handovers(&self) -> impl Iterator<Item = (PeriodKind, Timestamp)> {
        self.handovers.iter().map(|handover| (handover.kind, handover.until))
    }
}
