//! What a look among vectors takes: `cargo bench --bench cache`. 10,000 vectors of 384 numbers in one partition, as a feature of one workspace has
//! by default, and others; the time of each look, and the memory of an entry. Texts are read into signatures as prompts are.

use std::hint::black_box;
use std::time::{Duration, Instant};
use uuid::Uuid;
use weir::cache::index::{Index, Item, Wanted};
use weir::cache::vector::Vector;
use weir::decision::amount::Ratio;
use weir::decision::cache::key::Partition;
use weir::decision::cache::veto::Signature;
use weir::decision::id::{CacheEntryId, Feature, WorkspaceId};
use weir::decision::time::Timestamp;

const SIZES: [(usize, usize); 4] = [(1_000, 384), (10_000, 384), (10_000, 1_536), (100_000, 384)];
const LOOKS: usize = 2_000;
const QUICK_LOOKS: usize = 20;
const PROMPT: &str =
    "Which of the 25 plans that Weir sells in Ulm has no limit of 5,000,000 tokens per month, and what does it cost for 12 people?";

fn main() {
    let looks = if std::env::args().any(|argument| argument == "--quick") {
        QUICK_LOOKS
    } else {
        LOOKS
    };
    let begun = Instant::now();
    for _ in 0..looks {
        black_box(Signature::of(black_box(PROMPT)));
    }
    println!("a prompt of {} bytes is read in {:?}", PROMPT.len(), begun.elapsed() / looks as u32);
    for (entries, dimensions) in SIZES {
        look_among(entries, dimensions, looks.min(LOOKS * 10_000 / entries));
    }
}

fn look_among(entries: usize, dimensions: usize, looks: usize) {
    let workspace = WorkspaceId::parse("ws").expect("a name");
    let feature = Feature::parse("faq").expect("a name");
    let partition = Partition::from_bytes([7; 32]);
    let (index, signature) = (Index::bounded(4 << 30), Signature::of(PROMPT));
    let now = Timestamp::from_micros(1_764_000_000_000_000);
    let mut chance = Chance(7);
    for number in 0..entries {
        let item = Item {
            workspace: workspace.clone(),
            feature: feature.clone(),
            partition,
            id: CacheEntryId::of(&workspace, Uuid::from_u128((number as u128) << 32)),
            vector: chance.vector(dimensions),
            signature: signature.clone(),
            stored_at: now,
            expires_at: now.plus_seconds(3_600),
        };
        index.insert(item, entries);
    }
    let mut waits: Vec<Duration> = Vec::with_capacity(looks);
    for _ in 0..looks {
        let vector = chance.vector(dimensions);
        let wanted = Wanted {
            workspace: &workspace,
            feature: &feature,
            partition: &partition,
            vector: &vector,
            signature: &signature,
            threshold: Ratio::from_ten_thousandths(9_300).expect("a share"),
        };
        let begun = Instant::now();
        black_box(index.nearest(&wanted, now));
        waits.push(begun.elapsed());
    }
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    let (held, bytes) = index.size();
    println!(
        "{held} x {dimensions}: p50 {:?}, p99 {:?}, most {:?}; {} bytes an entry",
        at(0.5),
        at(0.99),
        at(1.0),
        bytes / held
    );
}

/// Numbers that look like chance, the same in every run.
struct Chance(u64);

impl Chance {
    fn vector(&mut self, dimensions: usize) -> Vector {
        let numbers: Vec<f64> = (0..dimensions).map(|_| self.next()).collect();
        Vector::of(&numbers).expect("a direction")
    }

    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64 - 0.5
    }
}
