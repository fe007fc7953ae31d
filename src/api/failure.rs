//! Which problem a failed flow is, and by which status a denial is told to callers who ask for that. Statuses of problems themselves are
//! chosen in [`super::problem`].

use super::problem::{Problem, ProblemCode, RETRY_AFTER_SECONDS};
use crate::decision::refusal::Code;
use crate::decision::standing::End;
use crate::flow::FlowError;
use crate::flow::read::LedgerError;
use actix_web::http::StatusCode;

impl From<FlowError> for Problem {
    fn from(error: FlowError) -> Self {
        let told = error.to_string();
        match error {
            FlowError::ReservationUnknown(_) | FlowError::ReservationGone(_) => Problem::reservation_unknown(told),
            FlowError::ReservationEnded(_, end) => Problem::of(code_of(end), told),
            FlowError::ReservationIsParent(_) => Problem::of(ProblemCode::ReservationIsParent, told),
            FlowError::ParentUnknown(_) => Problem::of_place(ProblemCode::ReservationUnknown, PARENT, told),
            FlowError::ParentEnded(_, end) => Problem::of_place(code_of(end), PARENT, told),
            FlowError::ParentUnfit(..) => Problem::unacceptable(PARENT, told),
            FlowError::EscalationUnknown(_) => Problem::of_place(ProblemCode::ReservationUnknown, ESCALATES, told),
            FlowError::EscalationNotDue(..) => Problem::of_place(ProblemCode::EscalationNotDue, ESCALATES, told),
            FlowError::AlreadyEscalated(_) => Problem::of_place(ProblemCode::AlreadyEscalated, ESCALATES, told),
            FlowError::NotFound | FlowError::NoSuchVersion(_) => Problem::not_found(),
            FlowError::SettleConflict(_) => Problem::of(ProblemCode::SettleConflict, told),
            FlowError::UsageConflict => Problem::of(ProblemCode::UsageConflict, told),
            FlowError::RequestIdHeld(_) => Problem::of(ProblemCode::RequestIdHeld, told),
            FlowError::GrantConflict(_) => Problem::of(ProblemCode::GrantConflict, told),
            FlowError::BatchConflict(..) => Problem::of(ProblemCode::BatchConflict, told),
            FlowError::CreditConflict(..) => Problem::of(ProblemCode::CreditConflict, told),
            FlowError::IdempotencyMismatch => Problem::of(ProblemCode::IdempotencyMismatch, told),
            FlowError::AmountTooLarge | FlowError::InvoiceTooLarge => Problem::amount_too_large(told),
            FlowError::LimitTooLarge { pointer, detail } => Problem::amount_too_large_at(pointer, detail),
            FlowError::UserRequired(_) => Problem::user_required(told),
            FlowError::Raced { .. } => Problem::precondition_failed(told),
            FlowError::TooFast(seconds) => Problem::too_many_requests(seconds),
            FlowError::Malformed { pointer, detail } => Problem::malformed(pointer, detail),
            FlowError::Unacceptable { pointer, detail } => Problem::unacceptable(pointer, detail),
            FlowError::PlanInUse { .. } | FlowError::PlanIsDefault(_) | FlowError::WouldStrand(_) => {
                Problem::of(ProblemCode::PlanInUse, told)
            }
            FlowError::RebuildTimeout(_) => counted("counters", Problem::overloaded().because(error)),
            FlowError::Ledger(LedgerError::Busy) => counted("ledger", Problem::overloaded()),
            FlowError::Ledger(LedgerError::Corrupt { .. }) | FlowError::NoRandomness(_) => Problem::internal().because(error),
            FlowError::Ledger(_) => counted("ledger", Problem::store_unavailable(RETRY_AFTER_SECONDS).because(error)),
            FlowError::Counters(_) => counted("counters", Problem::store_unavailable(RETRY_AFTER_SECONDS).because(error)),
        }
    }
}

/// Where a call names its run.
const PARENT: &str = "/parent_reservation_id";
/// Where a second try names the first.
const ESCALATES: &str = "/escalate_from";

fn code_of(end: End) -> ProblemCode {
    match end {
        End::Settled => ProblemCode::AlreadySettled,
        End::Released => ProblemCode::ReservationReleased,
        End::Expired => ProblemCode::ReservationExpired,
    }
}

/// A request that a store could not serve, or not now.
fn counted(store: &'static str, problem: Problem) -> Problem {
    metrics::counter!("weir_store_failed_total", "store" => store).increment(1);
    problem
}

/// `?http_status=map`: the status that says what the denial's code says.
pub fn status_of_denial(code: Code, is_rate: bool) -> StatusCode {
    match code {
        Code::HardLimitReached if is_rate => StatusCode::TOO_MANY_REQUESTS,
        Code::TooManyOpenReservations | Code::FairUsePause => StatusCode::TOO_MANY_REQUESTS,
        Code::WorkspaceSuspended | Code::FeatureDisabled | Code::ModelNotAllowed => StatusCode::FORBIDDEN,
        Code::ModelUnpriced | Code::ContextTooLong => StatusCode::UNPROCESSABLE_ENTITY,
        _ => StatusCode::PAYMENT_REQUIRED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_map_to_the_statuses_of_the_contract() {
        for (code, is_rate, status) in [
            (Code::HardLimitReached, false, 402),
            (Code::HardLimitReached, true, 429),
            (Code::NeverFits, false, 402),
            (Code::NoPlan, false, 402),
            (Code::NoBudget, false, 402),
            (Code::ParentExhausted, false, 402),
            (Code::TooManyOpenReservations, false, 429),
            (Code::FairUsePause, true, 429),
            (Code::WorkspaceSuspended, false, 403),
            (Code::FeatureDisabled, false, 403),
            (Code::ModelNotAllowed, false, 403),
            (Code::ModelUnpriced, false, 422),
            (Code::ContextTooLong, false, 422),
        ] {
            assert_eq!(status_of_denial(code, is_rate), status, "{code:?}");
        }
    }
}
