//! Results for people.

use comfy_table::{CellAlignment, Table, presets};
use kcl_core::Wire;

use super::consumer::Way;
use super::options::name;
use super::result::{Cost, Measured, Medians, Speed};

pub(super) fn text(measured: &Measured) -> String {
    let mut text = speeds(&measured.speeds).to_string();
    if !measured.costs.is_empty() {
        text.push_str("\n\n");
        text.push_str(&costs(&measured.costs).to_string());
    }
    text
}

fn speeds(speeds: &[Speed]) -> Table {
    let mut table = table(&[
        "records",
        "shards",
        "loop",
        "wire",
        "M records / CPU s",
        "MB / CPU s",
        "allocations / record",
        "peak MiB",
        "to official SDK",
        "at least",
        "to raw HTTP",
    ]);
    for speed in speeds {
        let job = &speed.job;
        let mut row = vec![
            job.case.name().to_owned(),
            job.shards.to_string(),
            name(&job.way),
            wire(job.wire),
        ];
        row.extend(numbers(&speed.medians));
        row.push(format!("{:.2}", speed.to_official));
        row.push(
            speed
                .bound()
                .map_or_else(String::new, |bound| bound.to_string()),
        );
        row.push(format!("{:.2}", speed.to_raw));
        table.add_row(row);
    }
    right(&mut table, 4);
    table
}

fn costs(costs: &[Cost]) -> Table {
    let mut table = table(&[
        "records",
        "answer",
        "consumer",
        "wire",
        "M records / CPU s",
        "MB / CPU s",
        "allocations / record",
        "peak MiB",
        "CPU to bare loop",
    ]);
    for cost in costs {
        for (way, medians, ratio) in [
            (Way::Framework, &cost.worker, format!("{:.3}", cost.ratio)),
            (Way::SourcePaced, &cost.bare, String::new()),
        ] {
            let mut row = vec![
                cost.case.name().to_owned(),
                cost.limit.to_string(),
                name(&way),
                wire(cost.wire),
            ];
            row.extend(numbers(medians));
            row.push(ratio);
            table.add_row(row);
        }
    }
    right(&mut table, 4);
    table
}

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header.iter().copied());
    table
}

/// Numbers stand to the right, from this column on.
pub(super) fn right(table: &mut Table, from: usize) {
    for column in table.column_iter_mut().skip(from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn numbers(medians: &Medians) -> [String; 4] {
    [
        format!("{:.3}", medians.records_per_second / 1e6),
        format!("{:.0}", medians.megabytes_per_second),
        format!("{:.3}", medians.allocations_per_record),
        format!("{:.0}", medians.peak_memory as f64 / 1_048_576.0),
    ]
}

fn wire(wire: Wire) -> String {
    format!("{wire:?}")
}
