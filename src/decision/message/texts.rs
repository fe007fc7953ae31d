//! Every text that callers and their customers read, by name: which placeholders it has, and its English words, which serve where a policy
//! says nothing. A sentence says what happened, what still works, when it ends and what to do.

macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($name:ident $key:literal;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $type { $($name,)* }

        impl $type {
            pub const ALL: &'static [$type] = &[$($type::$name,)*];

            pub const fn key(self) -> &'static str {
                match self { $($type::$name => $key,)* }
            }

            pub fn parse(key: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.key() == key)
            }
        }
    };
}

macro_rules! texts {
    ($($name:ident $key:literal [$($slot:ident)*] $english:literal;)*) => {
        named! {
            /// One text.
            Text { $($name $key;)* }
        }

        impl Text {
            /// The placeholders that it may have.
            pub const fn slots(self) -> &'static [Slot] {
                match self { $(Text::$name => &[$(Slot::$slot,)*],)* }
            }

            /// The words where nobody chose others.
            pub const fn english(self) -> &'static str {
                match self { $(Text::$name => $english,)* }
            }
        }
    };
}

named! {
    /// What stands in braces in a text.
    Slot {
        Amount "amount";
        Before "before";
        Beyond "beyond";
        Budget "budget";
        Calls "calls";
        Clock "clock";
        Date "date";
        Day "day";
        Feature "feature";
        Held "held";
        Host "host";
        Hour "hour";
        Left "left";
        Limit "limit";
        Minute "minute";
        Model "model";
        Month "month";
        Need "need";
        Observed "observed";
        Open "open";
        Output "output";
        Parent "parent";
        Percent "percent";
        Period "period";
        Plan "plan";
        Rate "rate";
        Renews "renews";
        Rule "rule";
        Seconds "seconds";
        Spent "spent";
        Subject "subject";
        Taken "taken";
        Time "time";
        Typical "typical";
        Until "until";
        User "user";
        Window "window";
        Workspace "workspace";
    }
}

texts! {
    // Who, how much and when: parts of the sentences below.
    SubjectWorkspace "subject_workspace" [Workspace] "Workspace {workspace}";
    SubjectUser "subject_user" [Workspace User] "User {user} of workspace {workspace}";
    SubjectUnnamedUser "subject_unnamed_user" [Workspace] "The unnamed user of workspace {workspace}";
    SubjectOfFeature "subject_of_feature" [Subject Feature] "{subject} for {feature}";
    Tokens "tokens" [Amount] "{amount} tokens";
    OneToken "one_token" [Amount] "{amount} token";
    Requests "requests" [Amount] "{amount} requests";
    OneRequest "one_request" [Amount] "{amount} request";
    Credits "credits" [Amount] "{amount} credits";
    OneCredit "one_credit" [Amount] "{amount} credit";
    Usd "usd" [Amount] "${amount}";
    ForMinute "for_minute" [] "for this minute";
    ForHour "for_hour" [] "for this hour";
    ForDay "for_day" [] "for today";
    ForWeek "for_week" [] "for this week";
    ForMonth "for_month" [Month] "for {month}";
    ForYear "for_year" [] "for this year";
    ForBilling "for_billing" [] "for this billing period";
    PerMinute "per_minute" [] "per minute";
    PerHour "per_hour" [] "per hour";
    Date "date" [Day Month] "{day} {month}";
    Clock "clock" [Hour Minute] "{hour}:{minute} UTC";
    Time "time" [Date Clock] "{date} at {clock}";
    Minutes "minutes" [Amount] "{amount} minutes";
    OneMinute "one_minute" [Amount] "{amount} minute";
    Seconds "seconds" [Amount] "{amount} seconds";
    RenewOn "renew_on" [Date] "They renew on {date}.";
    RenewAt "renew_at" [Time] "They renew on {time}.";
    UsdRenewsOn "usd_renews_on" [Date] "It renews on {date}.";
    UsdRenewsAt "usd_renews_at" [Time] "It renews on {time}.";

    // Why an allowed answer is not the plain one.
    Routed "routed" [Model Rule] "Routing chose {model} ({rule}).";
    WouldRoute "would_route" [Rule] "The shadow routing rule {rule} would have applied.";
    ProviderUnhealthy "provider_unhealthy" [Model] "{model} serves, because the model that would have served fails at the moment.";
    Escalated "escalated" [Model] "The answer before was not good enough, so {model} is asked.";
    AnswerCapped "answer_capped" [Output] "The answer may have at most {output} tokens; no more fits.";
    SoftLimitReached "soft_limit_reached" [Subject Taken Limit Period Renews Budget]
        "{subject} has used or holds {taken} of {limit} {period}. Requests still go through. {renews}";
    AskedDoesNotFit "asked_does_not_fit" [Need Budget Left]
        "The request as asked needs {need} of budget {budget}, which has {left} left, so it is served in another way.";
    OverageCharged "overage_charged" [Budget Beyond]
        "Budget {budget} is {beyond} over its limit. Requests still go through; the plan bills this as overage.";
    ShadowWouldDeny "shadow_would_deny" [Budget Limit]
        "The shadow budget {budget} would have denied this request at its limit of {limit}.";

    // Why a request is denied.
    WorkspaceSuspended "workspace_suspended" [Workspace]
        "Workspace {workspace} is suspended. What runs can still be settled; its administrator can have it resumed.";
    NoPlan "no_plan" [Workspace]
        "Workspace {workspace} has no plan, and there is no default plan. Give it one with PUT /v1/admin/workspaces/{workspace}.";
    FeatureNotInPlan "feature_not_in_plan" [Feature Plan] "Feature {feature} is not part of plan {plan}. Other features still work.";
    FeatureUnknown "feature_unknown" [Feature Plan]
        "Plan {plan} does not name feature {feature}, and allows only the features that it names.";
    ModelNotAllowed "model_not_allowed" [Model Plan] "Plan {plan} does not allow model {model}. Ask for another model, or for auto.";
    ModelUnpriced "model_unpriced" [Model]
        "Model {model} has no price in force, so what it costs is unknown. Add it with PUT /v1/admin/models/{model}.";
    ContextTooLong "context_too_long" [Model Limit Need]
        "Model {model} reads at most {limit}, and the request has {need}. Shorten it, or ask for another model.";
    NoBudget "no_budget" [Plan Feature] "Plan {plan} has no budget for feature {feature}, and is not unlimited.";
    TooManyOpen "too_many_open_reservations" [Workspace Open]
        "Workspace {workspace} has {open} open reservations, as many as its plan allows. Settle or release some of them.";
    RunHasNoCalls "run_has_no_calls" [Parent Calls] "The run of {parent} admits {calls} calls, and has had them. Open another one.";
    RunIsShort "run_is_short" [Parent Left Taken Need]
        "The run of {parent} has {left} left of its {taken}, and this call needs {need}. Settle or release its calls, or open another run.";
    NeverFits "never_fits" [Need Budget Limit]
        "The request needs {need}, and budget {budget} never allows more than {limit}. Make it smaller, or raise the limit.";
    LimitHeld "limit_held" [Subject Held Spent Need Limit]
        "{subject} has {held} in running requests and {spent} spent; {need} more would pass {limit}. Settle or release what runs, or wait until it expires.";
    LimitRate "limit_rate" [Subject Limit Rate Clock]
        "{subject} is at its rate of {limit} {rate}. What runs goes on; send the next request after {clock}.";
    LimitSpent "limit_spent" [Subject Limit Period Renews] "{subject} has used its {limit} {period}. {renews}";
    LimitNearlySpent "limit_nearly_spent" [Subject Left Limit Period Need Renews]
        "{subject} has {left} of its {limit} left {period}, and this request needs {need}. Smaller ones still go through. {renews}";

    // Fair use.
    FairUseObserved "fair_use_observed" [Subject Observed Window Typical Rule]
        "{subject} used {observed} in {window}, where {typical} are usual ({rule}).";
    FairUseLoop "fair_use_loop" [Subject Calls Seconds Rule] "{subject} made {calls} calls within {seconds} ({rule}).";
    FairUseVelocity "fair_use_velocity" [Subject Observed Window Rule] "{subject} used {observed} in {window} ({rule}).";
    FairUseEvent "fair_use_event" [Observed] "{observed} Nothing was changed; look whether this is meant.";
    FairUseThrottle "fair_use_throttle" [Observed Until]
        "{observed} Requests still go through, each with a delay, until {until}. No limit has changed.";
    FairUseDowngrade "fair_use_downgrade" [Observed Until]
        "{observed} Requests still go through, on a cheaper model, until {until}. No limit has changed.";
    FairUsePause "fair_use_pause" [Observed Until]
        "{observed} New requests are paused until {until}; what runs can be settled. If this is meant, an administrator can end the pause.";

    // What else customers are told of, in events.
    ThresholdReached "threshold_reached" [Subject Percent Limit Period Renews]
        "{subject} has used {percent} % of its {limit} {period}. Requests still go through. {renews}";
    SoftLimitSpent "soft_limit_spent" [Subject Taken Period Budget Limit Renews]
        "{subject} has used {taken} {period}, the soft limit of budget {budget}. Requests still go through, up to {limit}. {renews}";
    LimitSpentOverage "limit_spent_overage" [Subject Limit Period Renews]
        "{subject} has used its {limit} {period}. Requests still go through; the plan bills what follows as overage. {renews}";
    BudgetHasRoom "budget_has_room" [Subject Left Period Budget] "{subject} has {left} left {period} of budget {budget}. Requests go through again.";
    BudgetRenewed "budget_renewed" [Budget Subject Period] "Budget {budget} of {subject} has begun anew {period}. Requests go through again.";
    BudgetForecast "budget_forecast" [Subject Limit Period Date Renews]
        "At this pace {subject} will have used its {limit} {period} on {date}. {renews}";
    GrantExpiring "grant_expiring" [Workspace Left Budget Time]
        "Workspace {workspace} has {left} left of a grant for budget {budget}, which ends on {time}. Use it before, or ask for another one.";
    PlanChanged "plan_changed" [Workspace Plan Before]
        "Workspace {workspace} is on plan {plan} now; it was on {before}. What was used counts on.";
    PlanChosen "plan_chosen" [Workspace Plan] "Workspace {workspace} is on plan {plan} now. What was used counts on.";
    PlanGone "plan_gone" [Workspace] "Workspace {workspace} is on no plan any more, so its requests are denied. What was used is kept.";
    ReservationExpired "reservation_expired" []
        "A reservation ran out before it was settled. What it held is free again; it can still be settled late.";
    ReservationCharged "reservation_charged" []
        "A reservation ran out before it was settled, and what it had told or held was recorded. It can still be settled late.";
    EndpointGone "endpoint_gone" [Host]
        "The webhook endpoint at {host} answered 410 Gone, so it is told nothing more; what waited for it was cancelled. Enable it once it answers again, and replay what it missed.";
    EndpointFails "endpoint_fails" [Host]
        "The webhook endpoint at {host} has only failed for five days, so it is told nothing more; what waited for it was cancelled. Enable it once it answers again, and replay what it missed.";
}
