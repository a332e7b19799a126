//! The table and the last line.

use comfy_table::{Table, presets};

use crate::ledger::{Ledger, ShardStory, Verdict};

pub(crate) fn table(ledger: &Ledger) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "shard",
        "parents",
        "by worker 1",
        "by worker 2",
        "aggregated",
        "state",
    ]);
    for (id, story) in ledger.shards() {
        table.add_row(row(id, story));
    }
    table
}

fn row(id: &str, story: &ShardStory) -> [String; 6] {
    let by = |worker| {
        story
            .by_worker
            .get(&worker)
            .copied()
            .unwrap_or_default()
            .to_string()
    };
    let parents: Vec<&str> = story.parents.iter().map(|id| short(id)).collect();
    let state = if story.ended { "ended" } else { "open" };
    [
        short(id).to_owned(),
        parents.join(" + "),
        by(1),
        by(2),
        story.aggregated.to_string(),
        state.to_owned(),
    ]
}

/// The number of a shard, without its zeros.
fn short(id: &str) -> &str {
    let number = id.trim_start_matches("shardId-").trim_start_matches('0');
    if number.is_empty() { "0" } else { number }
}

pub(crate) fn last_line(ledger: &Ledger, verdict: &Verdict) -> String {
    let Verdict {
        missing,
        duplicates,
        out_of_order,
        unknown,
    } = verdict;
    let strangers = match unknown {
        0 => String::new(),
        unknown => format!("quickstart: {unknown} processed records were never put\n"),
    };
    let first = match ledger.first_record_after() {
        Some(after) => format!("first record after {} ms", after.as_millis()),
        None => "no record at all".to_owned(),
    };
    format!(
        "{strangers}quickstart: put {}, processed {}, missing {missing}, duplicates {duplicates}, out of order {out_of_order}, {first}",
        ledger.put_total(),
        ledger.processed(),
    )
}
