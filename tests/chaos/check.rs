//! Compares what clients were told with what the ledger has and what the counters say. Nothing of Weir's own code is used for it.

use super::books::{Books, Entry, Which};
use super::clients::{Clients, FLOOD, micros};
use super::reads;
use super::record::{Fate, Loss, Micros, Request, SECOND};
use futures_util::future::join_all;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

/// How long it may take until nothing is held any more: a claim that stays open is resolved after a minute, and holds run out before that.
const QUIET_SECONDS_MAX: u64 = 100;
/// How many counters are asked for at once.
const ASKED_AT_ONCE: usize = 16;
/// How long after a fault of Redis a settle may still have to do without it.
const REDIS_BACK: Micros = 3 * SECOND;
/// How many in a hundred settles may have gone on without Redis when nothing was done to it: a busy machine is silent too at times.
const LATE_FOR_NO_REASON_PERCENT_MAX: usize = 2;
/// The most memory of a node.
const MEMORY_MEGABYTES_MAX: u64 = 1_024;

/// How a node logs a request that a store did not answer.
const STORE_AWAY: &str = "code=\"store_unavailable\"";
/// How it logs that it made a connection to Redis anew because the old one had fallen silent.
const REPLACED: &str = "another one takes its place";
const NO_REASON: &str = "for no reason";

/// Waits until nothing is held and every counter is what the ledger says, on the first node. Returns the ledger as it is then, or as it is
/// when the time is over: then the checks find what is different.
pub async fn until_quiet(clients: &Clients, database_url: &str, limit: i64) -> Books {
    let began = Instant::now();
    loop {
        let books = Books::read(database_url).await.expect("the ledger is read");
        let different = counters(clients, &books, &[0], limit).await;
        let waited = began.elapsed();
        if different.is_empty() || waited > Duration::from_secs(QUIET_SECONDS_MAX) {
            println!("quiet after {:.1} s, {} counters different", waited.as_secs_f64(), different.len());
            return books;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

pub async fn all(clients: &Clients, requests: &[Request], books: &Books, limit: i64) {
    let losses: Vec<Loss> = clients
        .record
        .all_that_happened()
        .iter()
        .filter_map(|happened| happened.loss)
        .collect();
    let wrong = |request: &Request, what: &str| {
        let reservation = request.reservation.as_deref().unwrap_or_default();
        let (entries, end) = (books.of(reservation), books.ends.get(reservation));
        clients
            .record
            .wrong(format!("{what}\n{}    {end:?}\n    {entries:?}", request.trace()));
    };
    for request in requests {
        if let Err(what) = as_acknowledged(request, books) {
            wrong(request, &what);
        }
        let is_unknown = |call: &super::record::Call| call.verb == "release" && call.status == 404;
        if request.calls.iter().any(is_unknown) && !losses.iter().any(|loss| loss.took_record(request)) {
            wrong(request, "it is not known any more, and nothing was lost");
        }
    }
    once(clients, requests, books);
    reads::check(clients, requests);
    nodes(clients);
    sums(clients, books);
    told(clients, books, limit);
    limits(clients, requests, books, &losses, limit);
    let all_nodes: Vec<usize> = (0..clients.nodes.len()).collect();
    for different in counters(clients, books, &all_nodes, limit).await {
        clients.record.wrong(different);
    }
}

/// What was acknowledged of one request is in the ledger, and nothing else of it.
fn as_acknowledged(request: &Request, books: &Books) -> Result<(), String> {
    let Some(reservation) = &request.reservation else { return Ok(()) };
    let entries = books.of(reservation);
    let uses: Vec<&Entry> = entries.iter().filter(|entry| entry.kind == "usage").collect();
    let used: i64 = entries.iter().map(|entry| entry.counted_tokens).sum();
    let open = books
        .checkpoint(&request.workspace, reservation)
        .map(|checkpoint| checkpoint.counted_tokens);
    let row = books.ends.get(reservation);
    let end = row.and_then(|row| row.end.as_deref());
    if uses.len() > 1 {
        return Err(format!("it has {} entries of use", uses.len()));
    }
    if entries
        .iter()
        .any(|entry| entry.workspace_id != request.workspace || entry.feature != request.feature)
    {
        return Err("an entry is of another workspace or feature".to_owned());
    }
    if row.and_then(|row| row.entry_id.as_ref()) != entries.last().map(|entry| &entry.entry_id) {
        return Err(format!("its end names another entry: {row:?}"));
    }
    let outcomes: Vec<&str> = entries.iter().map(|entry| entry.outcome.as_str()).collect();
    if let Some(settled) = request.settled.first() {
        if used != request.used() || uses.len() != 1 || open.is_some() || end != Some("settled") {
            return Err(format!(
                "it is settled with {}, the ledger has {used} and the end {end:?}",
                request.used()
            ));
        }
        let Some(entry) = entries.iter().find(|entry| entry.entry_id == settled.entry_id) else {
            return Err(format!("the entry {} that was told is not there", settled.entry_id));
        };
        let whole = entries.len() == 1;
        if whole && (entry.input_tokens, entry.output_tokens, entry.late) != (request.input, request.output, settled.late) {
            return Err("the entry is not what was told".to_owned());
        }
        return match outcomes.as_slice() {
            ["success"] | ["abandoned", "success"] => Ok(()),
            _ => Err(format!("it is settled with success, its entries say {outcomes:?}")),
        };
    }
    let reported = request.checkpoint.map(|output| request.input + output);
    let sent = request.checkpoint_sent.map(|output| request.input + output);
    let recorded = open.unwrap_or(0) + used;
    if request.released && (open.is_some() || !matches!(outcomes.as_slice(), [] | ["cancelled"] | ["abandoned"])) {
        return Err(format!("it is released, with {open:?} in a checkpoint and entries of {outcomes:?}"));
    }
    match (request.fate, reported) {
        (_, Some(reported)) if recorded >= reported && recorded <= sent.unwrap_or(reported) => Ok(()),
        (_, Some(reported)) => Err(format!("its checkpoint of {reported} is acknowledged, the ledger has {recorded}")),
        (_, None) if recorded == 0 && entries.is_empty() => match (request.released, end) {
            (true, Some("released")) | (false, None | Some("expired")) => Ok(()),
            (released, end) => Err(format!("it was released: {released}; its end is {end:?}")),
        },
        // It was sent, and refused because the hold had run out; it may still have been recorded before.
        (_, None) if sent.is_some_and(|sent| recorded <= sent) => Ok(()),
        (fate, None) => Err(format!("{fate:?}: nothing was reported, and the ledger has {recorded}")),
    }
}

/// Every entry is of a request that some client made, and stands once.
fn once(clients: &Clients, requests: &[Request], books: &Books) {
    let known: HashSet<&str> = requests.iter().filter_map(|request| request.reservation.as_deref()).collect();
    let mut seen = HashSet::new();
    for entry in books.all_entries() {
        let reservation = entry.reservation_id.as_deref().unwrap_or_default();
        let is_known = known.contains(reservation) || entry.workspace_id == FLOOD;
        if !is_known || !seen.insert(&entry.entry_id) {
            clients
                .record
                .wrong(format!("nobody asked for this entry, or it stands twice: {entry:?}"));
        }
        if entry.kind == "correction"
            && !books
                .of(reservation)
                .iter()
                .any(|other| Some(&other.entry_id) == entry.corrects.as_ref())
        {
            clients.record.wrong(format!("a correction of nothing: {entry:?}"));
        }
    }
}

/// No node has panicked or met what it did not expect, nor grown without bound.
fn nodes(clients: &Clients) {
    for (number, node) in clients.nodes.iter().enumerate() {
        let log = std::fs::read_to_string(node.log()).unwrap_or_default();
        // That a store is away is told as an error too, and is to be expected here.
        let is_wrong = |line: &&str| line.contains("panicked") || (line.contains("ERROR") && !line.contains(STORE_AWAY));
        for line in log.lines().filter(is_wrong) {
            clients.record.wrong(format!("node {number} says {line}"));
        }
        let megabytes = node.memory_most().unwrap_or_default() / 1_024;
        let replaced = log.lines().filter(|line| line.contains(REPLACED)).count();
        println!("node {number} had {megabytes} MB at most, and replaced {replaced} silent connections to Redis");
        if megabytes > MEMORY_MEGABYTES_MAX {
            clients.record.wrong(format!("node {number} had {megabytes} MB"));
        }
    }
}

/// Every row of sums is the sum of its entries.
fn sums(clients: &Clients, books: &Books) {
    for sum in &books.sums {
        let counted = |name| Some(name).filter(|name| *name != "*");
        let spent = books.spent(&Which {
            workspace: &sum.workspace_id,
            user: counted(sum.user_id.as_str()),
            feature: counted(sum.feature.as_str()),
            unit: &sum.unit,
            from: sum.period_start,
            to: sum.period_end,
        });
        if spent != sum.spent {
            clients.record.wrong(format!("the entries say {spent} of {sum:?}"));
        }
    }
    println!(
        "{} rows of sums compared with {} entries",
        books.sums.len(),
        books.all_entries().count()
    );
}

/// Each level of the tokens of a workspace that its use has reached was told, and none twice; what was told was reached.
fn told(clients: &Clients, books: &Books, limit: i64) {
    let mut counts: HashMap<(&str, &str, i64), usize> = HashMap::new();
    let mut ids = HashSet::new();
    for event in books.told.iter().filter(|event| event.r#type.starts_with("budget.")) {
        let body: Value = serde_json::from_str(&event.body).expect("JSON");
        let number = |name: &str| body[name].as_i64().unwrap_or(-1);
        if body["budget_id"] == "tokens" {
            *counts.entry((&event.workspace_id, &event.r#type, number("level"))).or_default() += 1;
        }
        // A limit also tells that what is left is too little for a request of at most a tenth of it.
        let is_wall = event.r#type == "budget.exhausted" && number("remaining") < number("level") / 10;
        let is_reached = number("spent") >= number("level") || is_wall;
        if !is_reached || !ids.insert(&event.event_id) {
            clients.record.wrong(format!("this cannot have happened: {event:?}"));
        }
    }
    let of_tokens = books.sums.iter().filter(|sum| sum.period_end == i64::MAX && sum.unit == "tokens");
    let mut reached = 0;
    for sum in of_tokens {
        let shares = (1..=10).map(|tenth| ("budget.threshold_reached", (limit * tenth + 9) / 10));
        for (kind, level) in shares.chain([("budget.exhausted", limit)]) {
            let count = counts.get(&(sum.workspace_id.as_str(), kind, level)).copied().unwrap_or(0);
            reached += usize::from(sum.spent >= level);
            // A correction may have taken use below a level that it had reached.
            if count > 1 || (count == 0 && sum.spent >= level) {
                clients.record.wrong(format!("{kind} {level} was told {count} times of {sum:?}"));
            }
        }
    }
    println!("{} events of {reached} levels that are reached", counts.values().sum::<usize>());
}

/// What differs between the counters as these nodes tell them and the ledger.
async fn counters(clients: &Clients, books: &Books, nodes: &[usize], limit: i64) -> Vec<String> {
    let mut asked = Vec::new();
    for workspace in books.workspaces() {
        for node in nodes {
            for user in [None, Some("user-0"), Some("user-1")] {
                asked.push((*node, workspace.clone(), user));
            }
        }
    }
    let mut different = Vec::new();
    for some in asked.chunks(ASKED_AT_ONCE) {
        let each = some
            .iter()
            .map(|(node, workspace, user)| counters_of(clients, books, *node, workspace, *user, limit));
        different.extend(join_all(each).await.into_iter().flatten());
    }
    different
}

async fn counters_of(clients: &Clients, books: &Books, node: usize, workspace: &str, user: Option<&str>, limit: i64) -> Vec<String> {
    let query = user.map(|user| format!("?user_id={user}")).unwrap_or_default();
    let path = format!("/v1/workspaces/{workspace}/usage{query}");
    let Some((200, answer)) = clients.get(node, &path).await else {
        return vec![format!("node {node} does not answer {path}")];
    };
    let budgets = answer["budgets"].as_array().map_or(&[][..], Vec::as_slice);
    let mut different = Vec::new();
    if !budgets
        .iter()
        .any(|budget| budget["budget_id"] == "tokens" && budget["hard"] == limit)
    {
        different.push(format!("node {node} does not tell the budget of {workspace}: {answer}"));
    }
    for budget in budgets {
        let unit = budget["unit"].as_str().unwrap_or_default();
        let edge = |name: &str, without| budget["period"][name].as_str().map_or(without, micros);
        let spent = books.spent(&Which {
            workspace,
            user: (budget["scope"] == "user").then_some(user.unwrap_or_default()),
            feature: budget["feature"].as_str(),
            unit,
            from: edge("start", Micros::MIN),
            to: edge("end", Micros::MAX),
        });
        if amount(&budget["spent"]) != Some(spent) || amount(&budget["held"]) != Some(0) {
            different.push(format!(
                "node {node}, {workspace}, user {user:?}: {} has spent {} and held {}, its entries say {spent}",
                budget["budget_id"], budget["spent"], budget["held"]
            ));
        }
    }
    different
}

/// An amount as callers see it: an integer, or dollars with nine decimals.
fn amount(value: &Value) -> Option<i64> {
    let Some(text) = value.as_str() else { return value.as_i64() };
    let (whole, fraction) = text.split_once('.')?;
    (fraction.len() == 9).then(|| format!("{whole}{fraction}").parse().ok())?
}

/// Units over a limit are at most those of holds that died with a copy of the counters, and of holds that ran out before they were settled.
fn limits(clients: &Clients, requests: &[Request], books: &Books, losses: &[Loss], limit: i64) {
    let mut died: HashMap<&str, i64> = HashMap::new();
    let mut ran_out: HashMap<&str, i64> = HashMap::new();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for request in requests {
        let has_died = losses.iter().any(|loss| loss.took(request));
        if has_died {
            *died.entry(&request.workspace).or_default() += request.held();
        }
        let Some(settled) = request.settled.first().filter(|settled| settled.late) else {
            continue;
        };
        let reason = if has_died {
            "its hold may have died"
        } else if request.expires_at <= request.ended_at() {
            *ran_out.entry(&request.workspace).or_default() += request.used();
            "its hold ran out"
        } else if was_away(clients, request) {
            "settled without Redis"
        } else {
            println!("{} is late for no reason\n{}", settled.entry_id, request.trace());
            NO_REASON
        };
        *reasons.entry(reason).or_default() += 1;
    }
    let (mut over_all, mut over_workspaces) = (0, 0);
    for workspace in books.workspaces() {
        let spent = books.spent(&Which {
            workspace: &workspace,
            user: None,
            feature: None,
            unit: "tokens",
            from: Micros::MIN,
            to: Micros::MAX,
        });
        let over = (spent - limit).max(0);
        let of = |units: &HashMap<&str, i64>| units.get(workspace.as_str()).copied().unwrap_or_default();
        over_all += over;
        over_workspaces += i64::from(over > 0);
        if over > of(&died) + of(&ran_out) {
            clients.record.wrong(format!(
                "{workspace} is {over} over its limit; {} died with Redis and {} ran out",
                of(&died),
                of(&ran_out)
            ));
        }
    }
    for (number, loss) in losses.iter().enumerate() {
        let units: i64 = requests.iter().filter(|request| loss.took(request)).map(Request::held).sum();
        println!("loss {}: holds of {units} tokens died", number + 1);
    }
    println!("late settles: {reasons:?}");
    let settled = requests.iter().filter(|request| !request.settled.is_empty()).count();
    let no_reason = reasons.get(NO_REASON).copied().unwrap_or_default();
    if no_reason * 100 > settled * LATE_FOR_NO_REASON_PERCENT_MAX {
        clients.record.wrong(format!("{no_reason} settles are late for no reason"));
    }
    println!(
        "{over_all} tokens over the limits of {over_workspaces} of {} workspaces; holds that died were of {}, late ones that ran out of {}",
        books.workspaces().len(),
        died.values().sum::<i64>(),
        ran_out.values().sum::<i64>()
    );
    let released = requests.iter().filter(|request| request.released).count();
    let left = requests
        .iter()
        .filter(|request| request.fate == Fate::Abandon && request.reservation.is_some())
        .count();
    println!(
        "{settled} settled, {released} released, {left} left; {} checkpoints still open",
        books.open_checkpoints()
    );
}

/// Whether a node may have had to do without Redis while this was settled.
fn was_away(clients: &Clients, request: &Request) -> bool {
    let (from, to) = (request.settling_at(), request.ended_at());
    let mut happened = clients.record.all_that_happened().into_iter();
    happened.any(|happened| happened.hides_redis && happened.began <= to && happened.ended + REDIS_BACK >= from)
}
