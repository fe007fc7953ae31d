//! What nodes said of a counter on the way: at least what they had acknowledged before they were asked, and at most what was ever reported
//! by then. A counter that is behind would come right by itself in the end, so the end does not show it.

use super::clients::Clients;
use super::record::{Micros, Request};
use std::collections::{HashMap, HashSet};

/// How a node says that a commit did not reach the counters; the next settle heals it.
const BEHIND: &str = "counters are behind the ledger";

/// What is known of one workspace, in the order of time.
#[derive(Default)]
struct Known {
    /// When a use was acknowledged that the counters must have from then on.
    acknowledged: Vec<(Micros, i64)>,
    /// When a use was first reported.
    reported: Vec<(Micros, i64)>,
}

fn until(all: &[(Micros, i64)], moment: Micros) -> i64 {
    let before = all.partition_point(|(at, _)| *at < moment);
    all[..before].iter().map(|(_, units)| units).sum()
}

/// Reservations whose commit did not reach the counters, as the nodes' logs say.
fn behind(clients: &Clients) -> HashSet<String> {
    let mut behind = HashSet::new();
    for node in &clients.nodes {
        let log = std::fs::read_to_string(node.log()).unwrap_or_default();
        for line in log.lines().filter(|line| line.contains(BEHIND)) {
            let rest = line.split("reservation=").nth(1).unwrap_or_default();
            behind.extend(rest.split_whitespace().next().map(str::to_owned));
        }
    }
    behind
}

/// Compares every reading of a limit's counter with what clients knew before it and after it.
pub fn check(clients: &Clients, requests: &[Request]) {
    let behind = behind(clients);
    let happened = clients.record.all_that_happened();
    // The copy that stays learns of these by the sweep, or by the next settle.
    let parted = |request: &Request| {
        let (from, to) = (request.settling_at(), request.ended_at());
        let mut partitions = happened.iter().filter(|happened| happened.parts_redis);
        partitions.any(|partition| partition.began <= to && partition.ended >= from)
    };
    let mut workspaces: HashMap<&str, Known> = HashMap::new();
    for request in requests {
        let known = workspaces.entry(&request.workspace).or_default();
        let sent = |verb: &'static str| request.calls.iter().filter(move |call| call.verb == verb);
        // Whoever had to ask twice may have met a node that died between the commit and its copy.
        let once = sent("settle").count() == 1 && !request.settled.is_empty();
        let copied = request
            .reservation
            .as_ref()
            .is_some_and(|reservation| !behind.contains(reservation));
        if once && copied && !parted(request) {
            known.acknowledged.push((request.ended_at(), request.used()));
        }
        if let Some(first) = sent("settle").next().or(sent("settle late").next()) {
            known.reported.push((first.sent, request.used()));
        }
        if let Some(first) = sent("checkpoint").next() {
            known.reported.push((first.sent, request.used()));
        }
    }
    for known in workspaces.values_mut() {
        known.acknowledged.sort_unstable();
        known.reported.sort_unstable();
    }
    let (mut readings, mut wrong) = (0, 0);
    for request in requests {
        let known = &workspaces[request.workspace.as_str()];
        // The first answer to an authorize is of that moment; later ones repeat it.
        let Some(call) = request.calls.first() else { continue };
        let Some(spent) = call.spent else { continue };
        readings += 1;
        let (least, most) = (until(&known.acknowledged, call.sent), until(&known.reported, call.answered));
        if spent < least || spent > most {
            wrong += 1;
            let what = format!("told that {spent} are spent; {least} were acknowledged before, {most} reported by then");
            clients.record.wrong(format!("{what}\n{}", request.trace()));
        }
    }
    println!(
        "{readings} readings of counters on the way, {wrong} wrong; {} commits did not reach the counters",
        behind.len()
    );
}
