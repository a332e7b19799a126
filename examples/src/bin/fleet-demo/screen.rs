//! What a person sees: a table that is drawn again and again on a terminal, plain lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::{Table, presets};
use kcl_core::BoxError;
use kcl_emulator::Emulator;

use crate::board::{Happening, Totals};
use crate::processor::SharedBoard;
use crate::script::STREAM;

const REDRAW: Duration = Duration::from_millis(250);
/// Without a terminal the state of the fleet is told in every so many looks.
const LOOKS_PER_LINE: usize = 8;
/// Happenings shown under the table.
const RECENT: usize = 8;
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Shows the board until it is dropped.
pub(crate) async fn show(emulator: Emulator, board: SharedBoard) -> Result<(), BoxError> {
    let terminal = std::io::stdout().is_terminal();
    let (mut seen, mut look) = (0, 0);
    loop {
        tokio::time::sleep(REDRAW).await;
        let put = put(&emulator);
        if terminal {
            print(&picture(&board, &put))?;
            continue;
        }
        let lines: Vec<String> = {
            let board = board.lock();
            let news = board.log_after(seen);
            seen += news.len();
            news.iter().map(line).collect()
        };
        lines
            .iter()
            .try_for_each(|line| print(&format!("{line}\n")))?;
        look += 1;
        if look % LOOKS_PER_LINE == 0 {
            print(&format!("{}\n", state(&board, &put)))?;
        }
    }
}

/// The sequence numbers that were put, by shard.
pub(crate) fn put(emulator: &Emulator) -> BTreeMap<String, Vec<String>> {
    let mut put: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in emulator.records(STREAM) {
        let number = record.sequence_number.to_string();
        put.entry(record.shard_id).or_default().push(number);
    }
    put
}

pub(crate) fn print(text: &str) -> Result<(), BoxError> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// The whole screen.
fn picture(board: &SharedBoard, put: &BTreeMap<String, Vec<String>>) -> String {
    let at = board.elapsed();
    let board = board.lock();
    let all = board.log_after(0);
    let recent = board.log_after(all.len().saturating_sub(RECENT));
    let recent: Vec<String> = recent.iter().map(line).collect();
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["shard", "holder", "behind", "processed", "again", "moves"]);
    for row in board.rows(put) {
        table.add_row([
            row.shard,
            row.holder,
            row.behind.to_string(),
            row.processed.to_string(),
            row.again.to_string(),
            row.moves.to_string(),
        ]);
    }
    let seconds = at.as_secs();
    format!(
        "{CLEAR}a fleet of workers on one stream, {seconds} s\n{table}\n{}\n",
        recent.join("\n")
    )
}

/// Who holds what, in one line.
fn state(board: &SharedBoard, put: &BTreeMap<String, Vec<String>>) -> String {
    let (at, board) = (board.elapsed(), board.lock());
    let rows = board.rows(put);
    let mut held: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.holder != "(complete)") {
        let shard = format!("{}(-{})", row.shard, row.behind);
        held.entry(row.holder.clone()).or_default().push(shard);
    }
    let held = held
        .iter()
        .map(|(holder, shards)| format!("{holder}: {}", shards.join(" ")));
    let held: Vec<String> = held.collect();
    format!("{:6.1} s  | {}", at.as_secs_f64(), held.join(" | "))
}

fn line(happening: &Happening) -> String {
    format!("{:6.1} s  {}", happening.at.as_secs_f64(), happening.text)
}

/// The last line.
pub(crate) fn summary(totals: &Totals) -> String {
    format!(
        "put {}, missing {}, processed again {} (after the kill), moves {}",
        totals.put, totals.missing, totals.again, totals.moves
    )
}
