//! Credit grants: what a customer has paid for ahead, as Stripe sets it off against invoices of metered prices. Stripe takes no identifier for
//! them, so what may have been taken is looked for, by Weir's own id in its metadata, before it is made again; a request that is still on its
//! way bears the key of the next one, so that both are one.

use super::{Stripe, answer, seconds};
use crate::billing::{Answer, Credit, CreditAnswer};
use std::collections::HashMap;
use stripe::{ApiErrorsType, IdempotencyKey, RequestStrategy, StripeError, StripeRequest};
use stripe_billing::billing_credit_grant::{
    CreateBillingCreditGrant, CreateBillingCreditGrantAmount, CreateBillingCreditGrantAmountMonetary, CreateBillingCreditGrantAmountType,
    CreateBillingCreditGrantApplicabilityConfig, CreateBillingCreditGrantApplicabilityConfigScope,
    CreateBillingCreditGrantApplicabilityConfigScopePriceType, ExpireBillingCreditGrant, ListBillingCreditGrant,
    VoidGrantBillingCreditGrant,
};
use stripe_billing::{BillingCreditGrantCategory, BillingCreditGrantId};

/// Under this name Weir's id stands in the metadata.
const METADATA_ID: &str = "weir_grant_id";
/// What begins sooner begins now.
const BEGIN_SPARE_SECONDS: i64 = 60;
/// Pages of 100 of one customer's grants.
const PAGES_MAX: usize = 50;

impl Stripe {
    /// Makes a credit grant unless it is there.
    pub(super) async fn give(&self, credit: &Credit) -> CreditAnswer {
        match self.find(credit).await {
            Ok(Some(id)) => return CreditAnswer::Given(id),
            Ok(None) => {}
            Err(why) => return why,
        }
        let Some(customer) = &credit.delivery.customer else {
            return CreditAnswer::Refused("the workspace has no customer".to_owned());
        };
        let mut amount = CreateBillingCreditGrantAmount::new(CreateBillingCreditGrantAmountType::Monetary);
        let Ok(currency) = credit.paid.currency.parse();
        amount.monetary = Some(CreateBillingCreditGrantAmountMonetary {
            currency,
            value: credit.paid.amount,
        });
        let mut scope = CreateBillingCreditGrantApplicabilityConfigScope::new();
        scope.price_type = Some(CreateBillingCreditGrantApplicabilityConfigScopePriceType::Metered);
        let mut request = CreateBillingCreditGrant::new(amount, CreateBillingCreditGrantApplicabilityConfig::new(scope))
            .customer(customer.as_str())
            .category(BillingCreditGrantCategory::Paid)
            .name(credit.grant.to_string())
            .metadata(HashMap::from([(METADATA_ID.to_owned(), credit.grant.to_string())]));
        // A time that has passed means now; Stripe takes none, by its own clock and in whole seconds.
        if credit.effective_at > self.clock.now().plus_seconds(BEGIN_SPARE_SECONDS) {
            request = request.effective_at(seconds(credit.effective_at));
        }
        if let Some(at) = credit.expires_at {
            request = request.expires_at(seconds(at));
        }
        let strategy = IdempotencyKey::new(credit.key()).map_or(RequestStrategy::Once, RequestStrategy::Idempotent);
        match request.customize().request_strategy(strategy).send(&self.client).await {
            Ok(made) => CreditAnswer::Given(made.id.to_string()),
            Err(error) => ended(&error),
        }
    }

    /// Voids a credit grant; one that is void already is. One of which something was used cannot be voided: the rest of it expires.
    pub(super) async fn void(&self, id: &str) -> CreditAnswer {
        let grant = || BillingCreditGrantId::from(id.to_owned());
        let request = VoidGrantBillingCreditGrant::new(grant()).customize();
        let refused = match request.request_strategy(self.once(id)).send(&self.client).await {
            Ok(_) => return CreditAnswer::Gone,
            Err(error) => match ended(&error) {
                CreditAnswer::Refused(reason) if is_over(&reason) => return CreditAnswer::Gone,
                CreditAnswer::Refused(reason) => reason,
                other => return other,
            },
        };
        let request = ExpireBillingCreditGrant::new(grant()).customize();
        match request.request_strategy(self.once(id)).send(&self.client).await {
            Ok(_) => CreditAnswer::Gone,
            Err(error) => match ended(&error) {
                CreditAnswer::Refused(reason) if is_over(&reason) => CreditAnswer::Gone,
                CreditAnswer::Refused(_) => CreditAnswer::Refused(refused),
                other => other,
            },
        }
    }

    /// What Stripe calls a credit, if it has it. Nothing is done by it, so what fails has surely not been taken.
    pub(super) async fn find(&self, credit: &Credit) -> Result<Option<String>, CreditAnswer> {
        let Some(customer) = &credit.delivery.customer else {
            return Ok(None);
        };
        let id = credit.grant.to_string();
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut request = ListBillingCreditGrant::new().customer(customer.as_str()).limit(100);
            if let Some(after) = &after {
                request = request.starting_after(after.clone());
            }
            let page = request.customize().request_strategy(RequestStrategy::Once).send(&self.client).await;
            let page = page.map_err(|error| unseen(&error))?;
            if let Some(found) = page
                .data
                .iter()
                .find(|grant| grant.metadata.get(METADATA_ID).is_some_and(|known| *known == id))
            {
                return Ok(Some(found.id.to_string()));
            }
            match page.data.last().filter(|_| page.has_more) {
                Some(last) => after = Some(last.id.to_string()),
                None => return Ok(None),
            }
        }
        Err(CreditAnswer::NotNow {
            seconds: None,
            is_away: false,
            reason: "the customer has too many credit grants to look through".to_owned(),
        })
    }
}

/// Whether a refusal says that the grant has ended before.
fn is_over(reason: &str) -> bool {
    reason.contains("already been voided") || reason.contains("already expired")
}

/// What a failed look says: nothing was given by it.
fn unseen(error: &StripeError) -> CreditAnswer {
    match answer::answer(error) {
        Answer::Rejected { reason } => CreditAnswer::LookRefused(reason),
        Answer::RetryAfter { seconds, is_away, reason } => CreditAnswer::NotNow { seconds, is_away, reason },
        Answer::Acknowledged | Answer::Duplicate | Answer::NoMeter { .. } | Answer::Unknown { .. } => CreditAnswer::NotNow {
            seconds: None,
            is_away: true,
            reason: format!("Stripe did not say which credit grants there are: {}", answer::told(error)),
        },
    }
}

fn ended(error: &StripeError) -> CreditAnswer {
    // A key under which something else was asked before, such as a begin that has passed by now: it is asked anew, after another look.
    let is_other = matches!(error, StripeError::Stripe(error, 400) if error.type_ == ApiErrorsType::IdempotencyError);
    match answer::answer(error) {
        Answer::Rejected { reason } if is_other => CreditAnswer::Unsure { is_answered: true, reason },
        Answer::Rejected { reason } => CreditAnswer::Refused(reason),
        Answer::RetryAfter { seconds, is_away, reason } => CreditAnswer::NotNow { seconds, is_away, reason },
        Answer::Acknowledged | Answer::Duplicate | Answer::NoMeter { .. } | Answer::Unknown { .. } => CreditAnswer::Unsure {
            // 409: a request under the key is still running, and its own answer is to come.
            is_answered: matches!(error, StripeError::Stripe(_, status) if *status != 409),
            reason: answer::told(error),
        },
    }
}
