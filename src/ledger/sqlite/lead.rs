//! Leads among the tasks of one process: names that are taken until they are dropped.

use crate::ledger::Lead;
use async_trait::async_trait;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

/// Which leads are taken.
#[derive(Clone, Default)]
pub(super) struct Leads(Arc<Mutex<HashSet<String>>>);

struct Taken {
    what: String,
    leads: Leads,
}

impl Leads {
    pub(super) fn take(&self, what: &str) -> Option<Box<dyn Lead>> {
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(what.to_owned());
        is_new.then(|| {
            let taken = Taken {
                what: what.to_owned(),
                leads: self.clone(),
            };
            Box::new(taken) as Box<dyn Lead>
        })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.leads.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.what);
    }
}

#[async_trait]
impl Lead for Taken {
    async fn is_held(&mut self) -> bool {
        true
    }
}
