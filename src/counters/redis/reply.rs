//! What a script answered, read place by place.

use crate::counters::run::{Lending, Run};
use crate::counters::{Claim, Record};
use crate::decision::amount::Amounts;
use crate::decision::counter::Balance;
use crate::decision::id::{ReservationId, WorkspaceId};
use crate::decision::rung::Taken;
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use ::redis::Value;
use std::sync::Arc;

/// An answer that is not what a script of this version says.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the script's answer has {found} where {expected} should stand")]
pub(super) struct Unexpected {
    expected: &'static str,
    found: String,
}

impl Unexpected {
    pub(super) fn of(expected: &'static str, found: &str) -> Self {
        let found = found.chars().take(200).collect();
        Self { expected, found }
    }
}

fn unexpected(expected: &'static str, found: &Value) -> Unexpected {
    Unexpected::of(expected, &format!("{found:?}"))
}

/// An array, from its first place on.
pub(super) struct Reply {
    values: std::vec::IntoIter<Value>,
}

impl Reply {
    pub(super) fn new(value: Value) -> Result<Self, Unexpected> {
        match value {
            Value::Array(values) => Ok(Self {
                values: values.into_iter(),
            }),
            other => Err(unexpected("a list", &other)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    fn next(&mut self) -> Value {
        self.values.next().unwrap_or(Value::Nil)
    }

    pub(super) fn int(&mut self) -> Result<i64, Unexpected> {
        let value = self.next();
        let number = match &value {
            Value::Int(number) => Some(i128::from(*number)),
            // What doubles cannot hold exactly is text. More than 64 bits can only be held on a counter by many holds.
            Value::BulkString(text) => std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
        let number = number.ok_or_else(|| unexpected("a number", &value))?;
        Ok(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// The place of a rung.
    pub(super) fn place(&mut self) -> Result<usize, Unexpected> {
        Ok(usize::try_from(self.int()?).unwrap_or(usize::MAX))
    }

    pub(super) fn bytes(&mut self) -> Result<Vec<u8>, Unexpected> {
        match self.next() {
            Value::BulkString(bytes) => Ok(bytes),
            other => Err(unexpected("bytes", &other)),
        }
    }

    pub(super) fn bytes_if_any(&mut self) -> Result<Option<Vec<u8>>, Unexpected> {
        match self.next() {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(bytes)),
            other => Err(unexpected("bytes", &other)),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, Unexpected> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes).map_err(|error| unexpected("text", &Value::BulkString(error.into_bytes())))
    }

    pub(super) fn list(&mut self) -> Result<Reply, Unexpected> {
        Reply::new(self.next())
    }

    pub(super) fn texts(&mut self) -> Result<Vec<String>, Unexpected> {
        let mut list = self.list()?;
        (0..list.len()).map(|_| list.text()).collect()
    }

    pub(super) fn moment(&mut self) -> Result<Timestamp, Unexpected> {
        self.int().map(Timestamp::from_micros)
    }

    pub(super) fn moment_if_any(&mut self) -> Result<Option<Timestamp>, Unexpected> {
        match self.values.as_slice().first() {
            None | Some(Value::Nil) => {
                self.next();
                Ok(None)
            }
            Some(_) => self.moment().map(Some),
        }
    }

    pub(super) fn end(&mut self) -> Result<Option<End>, Unexpected> {
        let value = self.next();
        match value {
            Value::Int(0) => Ok(None),
            Value::Int(1) => Ok(Some(End::Settled)),
            Value::Int(2) => Ok(Some(End::Released)),
            Value::Int(3) => Ok(Some(End::Expired)),
            other => Err(unexpected("an end", &other)),
        }
    }

    /// Four amounts in a row.
    pub(super) fn amounts(&mut self) -> Result<Amounts, Unexpected> {
        Ok(Amounts {
            tokens: self.int()?,
            usd: self.int()?,
            requests: self.int()?,
            credits: self.int()?,
        })
    }

    /// A rung, its output and amounts, in a row.
    fn taken(&mut self) -> Result<Taken, Unexpected> {
        Ok(Taken {
            rung: self.place()?,
            output: self.int()?,
            amounts: self.amounts()?,
        })
    }

    fn balance(&mut self) -> Result<Balance, Unexpected> {
        Ok(Balance {
            spent: self.int()?,
            held: self.int()?,
            granted: 0,
        })
    }

    /// Balances of counters that lie in these groups, from 1 on, and what is granted, where purses were named: spent and held of each in turn,
    /// and after them places and what is granted there; or bytes, as a plain hold puts them down.
    pub(super) fn granted_balances(&mut self, groups: &[i64]) -> Result<Vec<Balance>, Unexpected> {
        let counters = groups.len();
        let mut list = match self.next() {
            Value::BulkString(bytes) => return balances_of(&bytes, groups),
            list => Reply::new(list)?,
        };
        let mut balances = Vec::with_capacity(counters);
        while balances.len() < counters && list.len() >= 2 {
            balances.push(list.balance()?);
        }
        while list.len() >= 2 {
            let (place, granted) = (list.place()?, list.int()?);
            if let Some(balance) = place.checked_sub(1).and_then(|place| balances.get_mut(place)) {
                balance.granted = granted;
            }
        }
        Ok(balances)
    }

    /// A list of pairs, or of nothing where nothing is known.
    pub(super) fn balances_if_known(&mut self) -> Result<Vec<Option<Balance>>, Unexpected> {
        let list = self.list()?;
        let one = |value| match value {
            Value::Nil => Ok(None),
            pair => {
                let mut pair = Reply::new(pair)?;
                let mut balance = pair.balance()?;
                if pair.len() > 0 {
                    balance.granted = pair.int()?;
                }
                Ok(Some(balance))
            }
        };
        list.values.map(one).collect()
    }

    /// A reservation, in the places that `store_v4.lua` names.
    pub(super) fn record(&mut self, reservation: ReservationId) -> Result<Record, Unexpected> {
        let mut list = self.list()?;
        let (end, ended_at) = (list.end()?, list.moment()?);
        let name = list.bytes()?;
        let workspace = std::str::from_utf8(&name).ok().and_then(|name| WorkspaceId::parse(name).ok());
        let workspace = workspace.ok_or_else(|| unexpected("a workspace", &Value::BulkString(name)))?;
        let bytes = list.bytes()?;
        let fingerprint = bytes.as_slice().try_into().map(u128::from_be_bytes);
        let fingerprint = fingerprint.map_err(|_| unexpected("a fingerprint", &Value::BulkString(bytes)))?;
        let mut record = Record {
            workspace,
            reservation,
            fingerprint,
            context: Arc::default(),
            taken: Taken {
                rung: 0,
                output: 0,
                amounts: Amounts::ZERO,
            },
            before: Vec::new(),
            held_at: ended_at,
            expires_at: ended_at,
            claimed: None,
            used: Amounts::ZERO,
            end,
            run: None,
        };
        if list.len() > 0 {
            list.hold(&mut record)?;
        }
        Ok(record)
    }

    /// What only a hold has, be it live or expired.
    fn hold(&mut self, record: &mut Record) -> Result<(), Unexpected> {
        self.next();
        record.held_at = self.moment()?;
        let claim = self.int()?;
        self.next();
        let claimed = self.amounts()?;
        record.claimed = match claim {
            0 => None,
            1 => Some(Claim::UpTo(claimed)),
            _ => Some(Claim::Final),
        };
        record.used = self.amounts()?;
        record.context = self.bytes()?.into();
        // Nonce and holders.
        (0..2).for_each(|_| drop(self.next()));
        let mut counters = self.list()?;
        let mut groups = Vec::with_capacity(counters.len() / 3);
        while counters.len() >= 3 {
            groups.push(counters.int()?);
            (0..2).for_each(|_| drop(counters.next()));
        }
        record.taken = self.taken()?;
        record.expires_at = self.moment()?;
        self.next();
        record.before = self.granted_balances(&groups)?;
        if self.len() > 0 {
            record.run = Some(self.run()?);
        }
        Ok(())
    }

    /// What a reservation is in a run: the id of the parent that it draws from, or what it lends itself.
    fn run(&mut self) -> Result<Run, Unexpected> {
        match self.next() {
            Value::Nil => Ok(Run::Parent(Lending {
                lent: self.amounts()?,
                calls: self.int()?,
                children: self.int()?,
            })),
            Value::BulkString(parent) => {
                let hex = parent.get(..32).and_then(|hex| std::str::from_utf8(hex).ok());
                let hex = hex.ok_or_else(|| unexpected("a parent", &Value::BulkString(parent.clone())))?;
                Ok(Run::Child(super::reservation(hex)?))
            }
            other => Err(unexpected("a parent, or what is lent", &other)),
        }
    }
}

/// A counter as bytes: held, spent and version.
pub(super) const COUNTER_BYTES: usize = 24;
/// A place and what is granted there.
pub(super) const GRANTED_BYTES: usize = 16;

/// The balances of counters that lie in these groups, of which the bytes have one after the other, each with its counters in their order.
pub(super) fn balances_of(bytes: &[u8], groups: &[i64]) -> Result<Vec<Balance>, Unexpected> {
    let wrong = || Unexpected::of("balances of counters", &format!("{} bytes", bytes.len()));
    let number = |bytes: &[u8], place: usize| {
        let eight = bytes.get(8 * place..8 * place + 8).and_then(|some| some.try_into().ok());
        eight.map(f64::from_be_bytes).map(|number| number as i64).ok_or_else(wrong)
    };
    let mut balances = vec![Balance::default(); groups.len()];
    let (counters, granted) = bytes.split_at_checked(COUNTER_BYTES * groups.len()).ok_or_else(wrong)?;
    let mut each = counters.chunks(COUNTER_BYTES);
    for group in 1..=groups.iter().copied().max().unwrap_or(0) {
        let own = balances.iter_mut().zip(groups).filter(|(_, of)| **of == group);
        for ((balance, _), bytes) in own.zip(&mut each) {
            (balance.held, balance.spent) = (number(bytes, 0)?, number(bytes, 1)?);
        }
    }
    for pair in granted.chunks(GRANTED_BYTES) {
        let place = usize::try_from(number(pair, 0)?).ok().and_then(|place| place.checked_sub(1));
        if let Some(balance) = place.and_then(|place| balances.get_mut(place)) {
            balance.granted = number(pair, 1)?;
        }
    }
    Ok(balances)
}
