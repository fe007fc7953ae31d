//! What the admin API says of a grant that was paid for: what it cost, and how its credit stands at the billing provider; and sending it again.

use super::call::{Answer, Call, ok};
use super::grants::GrantOut;
use super::problem::Problem;
use super::reservations::durably;
use crate::decision::billing::credit::{Credit, CreditState};
use crate::decision::billing::delivery::ReasonCode;
use crate::decision::grant::{PURCHASE_AMOUNT_MAX, Purchase};
use crate::decision::id::GrantId;
use crate::decision::time::Timestamp;
use crate::decision::value;
use crate::flow;
use crate::flow::FlowError;
use crate::flow::credit::Crediting;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// What the customer paid for a grant. A billing provider that keeps credits is told of it, and sets it off against invoices.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Paid, example = json!({"amount": 5000, "currency": "usd"}))]
pub struct PaidBody {
    /// In the smallest unit of the currency: 5000 of `usd` are 50 dollars.
    #[serde(deserialize_with = "paid_amount")]
    #[schema(minimum = 1, maximum = 999_999_999_999_i64)]
    amount: i64,
    /// Its code of ISO 4217 in lower case.
    #[schema(min_length = 3, max_length = 3, pattern = "^[a-z]{3}$", example = "usd")]
    currency: String,
}

fn paid_amount<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    value::integer(from, "an amount that was paid", 1, PURCHASE_AMOUNT_MAX)
}

impl PaidBody {
    pub(super) fn compile(&self) -> Result<Purchase, FlowError> {
        if let Some(detail) = Purchase::fault_of_currency(&self.currency) {
            return Err(FlowError::Unacceptable {
                pointer: "/paid/currency".to_owned(),
                detail: detail.to_owned(),
            });
        }
        Ok(Purchase {
            amount: self.amount,
            currency: self.currency.clone(),
        })
    }
}

/// What the customer paid for it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GrantPaid)]
pub struct PaidOut {
    /// In the smallest unit of the currency.
    #[schema(minimum = 1, maximum = 999_999_999_999_i64)]
    amount: i64,
    /// Its code of ISO 4217 in lower case.
    #[schema(example = "usd")]
    currency: String,
}

impl PaidOut {
    pub(super) fn new(paid: &Purchase) -> Self {
        Self {
            amount: paid.amount,
            currency: paid.currency.clone(),
        }
    }
}

/// How the credit of a paid grant stands at the billing provider.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GrantBilling)]
pub struct BillingOut {
    /// Whether it waits, is under way, is with the provider, or where it ended.
    state: CreditState,
    /// What the provider calls it; null: it has nothing, or that is not known.
    #[schema(value_type = Option<String>, max_length = 255, example = "credgr_test_61R9rm9vto9SMMvt0")]
    provider_id: Option<String>,
    /// The workspace's customer at the provider, as of the last try.
    #[schema(value_type = Option<String>, max_length = 255)]
    customer: Option<String>,
    /// How often the provider was called; while it is away only the first ten times count.
    #[schema(minimum = 0)]
    tries: i64,
    /// When it is tried next, or again. Null where it is not.
    #[schema(value_type = Option<String>, format = DateTime)]
    next_try_at: Option<Timestamp>,
    /// The first try that may have been taken although no answer said so: the next one looks first.
    #[schema(value_type = Option<String>, format = DateTime)]
    unsure_since: Option<Timestamp>,
    /// Why it is where it is; null where nothing needs to be said.
    reason: Option<ReasonCode>,
    /// The same for people.
    reason_detail: Option<String>,
    /// When the provider said that it has it; null: it has not.
    #[schema(value_type = Option<String>, format = DateTime)]
    acknowledged_at: Option<Timestamp>,
}

impl BillingOut {
    pub(super) fn new(credit: &Credit) -> Self {
        let delivery = &credit.delivery;
        Self {
            state: delivery.state,
            provider_id: delivery.provider_id.clone(),
            customer: delivery.customer.clone(),
            tries: delivery.tries,
            next_try_at: delivery.next_try_at,
            unsure_since: delivery.unsure_since,
            reason: delivery.reason.as_ref().map(|reason| reason.code),
            reason_detail: delivery.reason.as_ref().map(|reason| reason.detail.clone()),
            acknowledged_at: delivery.acknowledged_at,
        }
    }
}

/// A grant as operators see it.
pub(super) fn grant_out(crediting: &Crediting, now: Timestamp) -> GrantOut {
    let mut out = GrantOut::new(&crediting.standing, now);
    out.paid = crediting.standing.grant.paid.as_ref().map(PaidOut::new);
    out.billing = crediting.credit.as_ref().map(BillingOut::new);
    out
}

/// Has the credit of a paid grant sent again that was rejected or could not be given, or sooner one that waits. It is sent in the background,
/// and looked for at the provider first, so nothing is given twice.
#[utoipa::path(post, path = "/v1/admin/workspaces/{id}/grants/{grant}/resend", tag = "admin",
    params(("id" = String, Path), ("grant" = String, Path)), responses((status = 200, body = GrantOut)))]
pub async fn resend(call: Call) -> Answer {
    let id = call.path_workspace()?;
    call.no_body_or_empty_object()?;
    let grant = GrantId::parse(&call.path("grant")).map_err(|_| Problem::not_found())?;
    let (service, by) = (call.service.clone(), call.by()?);
    let crediting = durably(async move { flow::credit::resend(&service, &id, grant, &by).await }).await?;
    ok(&grant_out(&crediting, call.service.clock.now()))
}
