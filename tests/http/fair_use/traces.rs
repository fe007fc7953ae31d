//! How well rules tell a burst from an ordinary week: on load of our own, always, and on recorded traces where `WEIR_FAIR_USE_TRACES` names a
//! directory with them; then a table is printed.
//!
//! Each tenant is a week of tokens by minute. The four weeks before are the same days in another order, so what is usual at an hour comes from
//! other days, with all their differences. Into the week ten-fold bursts are put at random moments, one at a time.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::Path;
use weir::decision::amount::{Amounts, Unit};
use weir::decision::anomaly::baseline::{History, hour_of};
use weir::decision::anomaly::is_excess;
use weir::decision::time::Timestamp;

const MINUTES: usize = 7 * 24 * 60;
const BURST: i64 = 10;
const BURSTS_OF_EACH: usize = 40;
/// Far enough into time that all weeks before are positive.
const WEEK: i64 = 2_900;

struct Tenant {
    name: String,
    /// Tokens by minute.
    week: Vec<i64>,
}

/// How a rule did.
#[derive(Default)]
struct Score {
    bursts: usize,
    found: usize,
    minutes: Vec<usize>,
    false_alarms: usize,
    weeks: usize,
}

fn minute_at(minute: usize) -> Timestamp {
    Timestamp::from_micros(0).plus_seconds(WEEK * 7 * 86_400 + minute as i64 * 60)
}

impl Tenant {
    /// The days of the week in other orders, four times.
    fn history(&self) -> History {
        let mut hours = Vec::new();
        for back in (1..=4_i64).rev() {
            for hour in 0..168_usize {
                let day = (hour / 24 + back as usize) % 7;
                let begin = (day * 24 + hour % 24) * 60;
                let tokens = self.week[begin..begin + 60].iter().sum();
                let at = hour_of(minute_at(0)) - back * 168 + hour as i64;
                hours.push((at, Amounts { tokens, ..Amounts::ZERO }));
            }
        }
        let since = hours[0].0;
        History::new(hours, since)
    }

    /// The first minute in `range` at which a rule acts on `week`.
    fn first(&self, week: &[i64], history: &History, rule: Rule, range: std::ops::Range<usize>) -> Option<usize> {
        range.into_iter().find(|end| {
            let Some(begin) = (end + 1).checked_sub(rule.over) else {
                return false;
            };
            let observed: i64 = week[begin..=*end].iter().sum();
            if observed < rule.least {
                return false;
            }
            let usual = history
                .usual(Unit::Tokens, minute_at(begin), minute_at(end + 1))
                .expect("four weeks are known");
            is_excess(Some(rule.ratio), rule.least, observed, usual)
        })
    }
}

#[derive(Clone, Copy)]
struct Rule {
    ratio: i64,
    over: usize,
    least: i64,
}

fn score(tenants: &[Tenant], rule: Rule, burst_minutes: usize) -> Score {
    let mut score = Score::default();
    for tenant in tenants {
        let history = tenant.history();
        let mut chance = StdRng::seed_from_u64(7);
        // Without a burst: each alarm is a false one. After it the rule is quiet for a quarter of an hour, as an action would be.
        let (mut from, mut alarms) = (0, 0);
        while let Some(at) = tenant.first(&tenant.week, &history, rule, from..MINUTES) {
            alarms += 1;
            from = at + 15.max(rule.over);
        }
        score.false_alarms += alarms;
        score.weeks += 1;
        for _ in 0..BURSTS_OF_EACH {
            let begin = chance.random_range(240..MINUTES - 240);
            let mut week = tenant.week.clone();
            week[begin..begin + burst_minutes].iter_mut().for_each(|tokens| *tokens *= BURST);
            // A burst of nothing is nothing.
            if week[begin..begin + burst_minutes].iter().sum::<i64>() < rule.least {
                continue;
            }
            score.bursts += 1;
            if let Some(at) = tenant.first(&week, &history, rule, begin..begin + burst_minutes) {
                score.found += 1;
                score.minutes.push(at - begin + 1);
            }
        }
    }
    score.minutes.sort_unstable();
    score
}

fn table(tenants: &[Tenant], least: i64) -> String {
    let mut text = format!(
        "{} tenant-weeks; a rule acts from {least} tokens on\n| ratio | window | 15-minute bursts found | after (median) | hour-long found | after | false alarms a workspace-week |\n| --- | --- | --- | --- | --- | --- | --- |\n",
        tenants.len()
    );
    for ratio in [5, 10, 20] {
        for over in [5, 15, 60] {
            let rule = Rule { ratio, over, least };
            let (short, long) = (score(tenants, rule, 15), score(tenants, rule, 60));
            let told = |score: &Score| {
                let share = 100.0 * score.found as f64 / score.bursts.max(1) as f64;
                let median = score
                    .minutes
                    .get(score.minutes.len() / 2)
                    .map_or("–".to_owned(), |minutes| format!("{minutes} min"));
                format!("{share:.0} % of {} | {median}", score.bursts)
            };
            let alarms = short.false_alarms as f64 / short.weeks as f64;
            text += &format!("| {ratio}× | {over} min | {} | {} | {alarms:.2} |\n", told(&short), told(&long));
        }
    }
    text
}

/// Tokens by minute, where requests of these sizes come at these rates; waits between them are as uneven as `cv` says.
fn arrivals(rate_at: impl Fn(usize) -> (f64, f64), sizes: &[i64], chance: &mut StdRng) -> Vec<i64> {
    let mut week = vec![0; MINUTES];
    let mut minute = 0.0_f64;
    while (minute as usize) < MINUTES {
        let (a_second, cv) = rate_at(minute as usize);
        if a_second <= 0.0 {
            minute = minute.floor() + 10.0;
            continue;
        }
        let mean = 1.0 / (a_second * 60.0);
        // Exponential waits, or the mixture of short and long ones that has this variation.
        let uniform: f64 = chance.random_range(f64::MIN_POSITIVE..1.0);
        let squared = (cv * cv).clamp(1.0, 400.0);
        let short = 0.5 * (1.0 + ((squared - 1.0) / (squared + 1.0)).sqrt());
        let scale = if chance.random_range(0.0..1.0) < short {
            2.0 * short
        } else {
            2.0 * (1.0 - short)
        };
        minute += -uniform.ln() * mean / scale;
        if let Some(tokens) = week.get_mut(minute as usize) {
            *tokens += sizes[chance.random_range(0..sizes.len())];
        }
    }
    week
}

/// A tenant whose week is a recorded stretch, begun at another point each hour.
fn tiled(name: &str, stretch: &[i64], chance: &mut StdRng) -> Tenant {
    let mut week = Vec::with_capacity(MINUTES);
    while week.len() < MINUTES {
        let begin = chance.random_range(0..stretch.len());
        week.extend(stretch.iter().cycle().skip(begin).take(60));
    }
    Tenant {
        name: name.to_owned(),
        week,
    }
}

fn rates(text: &str, by: f64, sizes: &[Vec<i64>]) -> Vec<Tenant> {
    let mut clients: Vec<(String, Vec<(f64, f64)>)> = Vec::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |place: usize| fields[place].parse::<f64>().expect("a number");
        let window = number(2) as usize / 600;
        let place = clients.iter().position(|(name, _)| name == fields[1]).unwrap_or_else(|| {
            clients.push((fields[1].to_owned(), vec![(0.0, 1.0); MINUTES / 10]));
            clients.len() - 1
        });
        if let Some(slot) = clients[place].1.get_mut(window) {
            *slot = (number(3) * by, fields[4].parse().unwrap_or(1.0));
        }
    }
    let tenant = |(n, (name, slots)): (usize, (String, Vec<(f64, f64)>))| Tenant {
        week: arrivals(
            |minute| slots[minute / 10],
            &sizes[n % sizes.len()],
            &mut StdRng::seed_from_u64(n as u64),
        ),
        name,
    };
    clients.into_iter().enumerate().map(tenant).collect()
}

#[test]
fn bursts_are_told_from_an_ordinary_week() {
    let text = include_str!("../../data/fair_use_rates.csv");
    let tenants = rates(text, 1.0, &[vec![400, 800, 1_600, 3_200]]);
    assert_eq!(tenants.len(), 2);
    let least = 5_000;
    let fifteen = score(&tenants, Rule { ratio: 5, over: 15, least }, 60);
    assert!(fifteen.bursts > 50, "{}", fifteen.bursts);
    assert!(
        fifteen.found * 100 >= fifteen.bursts * 90,
        "{} of {}",
        fifteen.found,
        fifteen.bursts
    );
    assert!(fifteen.false_alarms <= 2 * fifteen.weeks, "{} false alarms", fifteen.false_alarms);
    let strict = score(
        &tenants,
        Rule {
            ratio: 20,
            over: 60,
            least,
        },
        15,
    );
    assert!(
        strict.found * 100 < strict.bursts * 20,
        "what is not twenty times is not found by a rule of twenty"
    );
}

#[test]
fn recorded_traces() {
    let Some(directory) = std::env::var_os("WEIR_FAIR_USE_TRACES") else {
        eprintln!("WEIR_FAIR_USE_TRACES names no directory with traces; nothing was measured");
        return;
    };
    let read = |name: &str| std::fs::read_to_string(Path::new(&directory).join(name)).expect(name);
    let (mut azure, mut azure_sizes) = (vec![0; 60], Vec::new());
    for line in read("azure2023_conv.csv").lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let part = |range| {
            fields[0]
                .get(range)
                .and_then(|text: &str| text.parse::<usize>().ok())
                .expect("a time")
        };
        let tokens: i64 = fields[1..3].iter().map(|field| field.parse::<i64>().expect("tokens")).sum();
        azure[(part(11..13) * 60 + part(14..16)) % 60] += tokens;
        azure_sizes.push(tokens);
    }
    let (mut mooncake, mut mooncake_sizes) = (Vec::new(), Vec::new());
    for line in read("mooncake_synthetic.jsonl").lines() {
        let request: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let number = |field: &str| request[field].as_i64().expect("a number");
        let (minute, tokens) = (
            number("timestamp") as usize / 60_000,
            number("input_length") + number("output_length"),
        );
        mooncake.resize(mooncake.len().max(minute + 1), 0);
        mooncake[minute] += tokens;
        mooncake_sizes.push(tokens);
    }
    let mut chance = StdRng::seed_from_u64(1);
    // A hundredth of a provider's load is a tenant's.
    let mut tenants = rates(&read("servegen_m-small_rates.csv"), 0.01, &[azure_sizes, mooncake_sizes]);
    tenants.push(tiled("azure", &azure, &mut chance));
    tenants.push(tiled("mooncake", &mooncake, &mut chance));
    for tenant in &tenants {
        println!("tenant {}: {} tokens in the week", tenant.name, tenant.week.iter().sum::<i64>());
    }
    print!("{}", table(&tenants, 50_000));
}
