//! Credit grants: what a workspace has paid for ahead, as Stripe sets it off against invoices. Stripe takes no identifier for them, so what
//! may have been taken is looked for, by Weir's own id in its metadata, before it is made again.

use super::{Stripe, answer, seconds};
use crate::billing::{Answer, Credit, CreditAnswer, Untold};
use std::collections::HashMap;
use stripe::{RequestStrategy, StripeError, StripeRequest};
use stripe_billing::billing_credit_grant::{
    CreateBillingCreditGrant, CreateBillingCreditGrantAmount, CreateBillingCreditGrantAmountMonetary, CreateBillingCreditGrantAmountType,
    CreateBillingCreditGrantApplicabilityConfig, CreateBillingCreditGrantApplicabilityConfigScope,
    CreateBillingCreditGrantApplicabilityConfigScopePriceType, ListBillingCreditGrant, VoidGrantBillingCreditGrant,
};
use stripe_billing::{BillingCreditGrantCategory, BillingCreditGrantId};

/// Under this name Weir's id stands in the metadata.
const METADATA_ID: &str = "weir_grant_id";
/// Pages of 100 of one customer's grants.
const PAGES_MAX: usize = 50;

impl Stripe {
    /// Makes a credit grant unless it is there. Two of these at once for one grant would make two: one node does it, one after another.
    pub(super) async fn give(&self, credit: &Credit) -> CreditAnswer {
        match self.find_credit(&credit.customer, &credit.id).await {
            Ok(Some(id)) => return CreditAnswer::Done(id),
            Ok(None) => {}
            Err(error) => return CreditAnswer::Later(error.to_string()),
        }
        let mut amount = CreateBillingCreditGrantAmount::new(CreateBillingCreditGrantAmountType::Monetary);
        let Ok(currency) = "usd".parse();
        amount.monetary = Some(CreateBillingCreditGrantAmountMonetary {
            currency,
            value: credit.cents,
        });
        let mut scope = CreateBillingCreditGrantApplicabilityConfigScope::new();
        scope.price_type = Some(CreateBillingCreditGrantApplicabilityConfigScopePriceType::Metered);
        let mut request = CreateBillingCreditGrant::new(amount, CreateBillingCreditGrantApplicabilityConfig::new(scope))
            .customer(credit.customer.as_str())
            .category(BillingCreditGrantCategory::Paid)
            .name(credit.id.as_str())
            .metadata(HashMap::from([(METADATA_ID.to_owned(), credit.id.clone())]));
        // A time that has passed means now; Stripe takes none.
        let now = self.clock.now();
        if let Some(at) = credit.effective_at.filter(|at| *at > now) {
            request = request.effective_at(seconds(at));
        }
        if let Some(at) = credit.expires_at {
            request = request.expires_at(seconds(at));
        }
        match request.customize().request_strategy(self.once(&credit.id)).send(&self.client).await {
            Ok(made) => CreditAnswer::Done(made.id.to_string()),
            Err(error) => ended(&error),
        }
    }

    /// Voids a credit grant; one that is void already is.
    pub(super) async fn void(&self, id: &str) -> CreditAnswer {
        let request = VoidGrantBillingCreditGrant::new(BillingCreditGrantId::from(id.to_owned()));
        match request.customize().request_strategy(self.once(id)).send(&self.client).await {
            Ok(_) => CreditAnswer::Done(id.to_owned()),
            Err(error) => match ended(&error) {
                CreditAnswer::Refused(reason) if reason.contains("already been voided") => CreditAnswer::Done(id.to_owned()),
                other => other,
            },
        }
    }

    async fn find_credit(&self, customer: &str, id: &str) -> Result<Option<String>, Untold> {
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut request = ListBillingCreditGrant::new().customer(customer).limit(100);
            if let Some(after) = &after {
                request = request.starting_after(after.clone());
            }
            let page = request.customize().request_strategy(RequestStrategy::Once).send(&self.client).await;
            let page = page.map_err(|error| Untold::NoAnswer(answer::told(&error)))?;
            if let Some(found) = page
                .data
                .iter()
                .find(|grant| grant.metadata.get(METADATA_ID).is_some_and(|known| known == id))
            {
                return Ok(Some(found.id.to_string()));
            }
            match page.data.last().filter(|_| page.has_more) {
                Some(last) => after = Some(last.id.to_string()),
                None => return Ok(None),
            }
        }
        Err(Untold::NoAnswer(
            "the customer has too many credit grants to look through".to_owned(),
        ))
    }
}

fn ended(error: &StripeError) -> CreditAnswer {
    match answer::answer(error) {
        Answer::Rejected { reason } => CreditAnswer::Refused(reason),
        _ => CreditAnswer::Later(answer::told(error)),
    }
}
