//! Dry run: decides as authorize would and explains, and leaves nothing behind: no hold, no workspace, no entry in the decision log.

use super::authorize::{Decision, Verdict, denial, deny, permit};
use super::prepare::Ready;
use super::{FlowError, Service, explain, rebuild};
use crate::decision::counter::Balance;
use crate::decision::facts::Outcome;
use crate::decision::rung::first_fit;

/// What authorize would answer now, with why. Open reservations are not counted.
pub(super) async fn dry_run(service: &Service, ready: &Ready) -> Result<Decision, FlowError> {
    let (context, ladder) = (&ready.compiled.context, &ready.compiled.ladder);
    let counters = &ladder.limits.counters;
    let balances = match ready.is_new {
        // Nothing is spent or held of a workspace that nobody has seen, and to read it would create it.
        true => vec![Balance::default(); counters.len()],
        false => {
            let named = ready.counters();
            let asked = (&**counters, &*ladder.limits.purses(&ladder.plan));
            rebuild::balances(service, &context.ask.workspace, asked, &named, ready.named_since()).await?
        }
    };
    let taken = first_fit(&ladder.rungs, &ladder.limits.units(), &balances);
    let mut decision = match taken {
        Some(taken) => {
            let permit = permit(ready.voice(), &context.ask, ladder, None, taken, &balances, &ready.compiled.note);
            Decision {
                decision: context.decision,
                verdict: Verdict::Allowed(Box::new(permit)),
                replayed: false,
                explain: None,
                cache: None,
            }
        }
        None => denial(context.decision, deny(service, ready, &balances).await?),
    };
    let outcome = taken.map_or(Outcome::Short, Outcome::Held);
    decision.explain = Some(Box::new(
        explain::explain(service, context.facts(balances, outcome), ready.accepted()).await?,
    ));
    Ok(decision)
}
