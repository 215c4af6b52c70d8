//! The table that is printed and the JSON beside it.

use std::fmt::Write;

use serde_json::{Value, json};

use super::figure::{Figure, Series, median};
use super::process::{ENVOY, OUTRIGGER};
use super::{Run, machine};

/// A Markdown table, so that it can be pasted where it is wanted.
pub fn table(run: &Run, figures: &[Figure]) -> String {
    let mut rows = vec![["", "unit", "Envoy", "Outrigger", "ratio", "target", ""].map(ToOwned::to_owned)];
    rows.extend(figures.iter().map(|figure| {
        [
            figure.title.clone(),
            figure.unit.to_owned(),
            figure.envoys.as_ref().map_or("-".to_owned(), |envoys| number(envoys.median())),
            number(figure.ours.median()),
            figure.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            figure.target_text(),
            verdict(figure).to_owned(),
        ]
    }));
    let mut text = format!("{}\n\n{}", heading(run), align(&rows));
    let timed: Vec<&Figure> = figures.iter().filter(|figure| !figure.ours.per_second.is_empty()).collect();
    if !timed.is_empty() {
        let head = ["", "", "per second", "p50 ms", "p99 ms", "failed"].map(ToOwned::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(timed.into_iter().flat_map(beside)).collect();
        let _ = write!(text, "\n{}", align(&rows));
    }
    text
}

pub fn heading(run: &Run) -> String {
    let versions: Vec<String> =
        run.sides.iter().map(|side| format!("{} {}", side.name, short(&side.version))).collect();
    let cores = if run.cores.are_apart() { "proxies on one core, load and upstream on another" } else { "one core" };
    format!(
        "{}; {}; {cores}; {} rounds of {} s, medians",
        versions.join(" and "),
        machine::description(),
        run.rounds,
        run.time.as_secs_f64()
    )
}

/// Of `hash/1.40.0/Clean/RELEASE/BoringSSL` the number.
fn short(version: &str) -> &str {
    let is_number = |part: &&str| part.split('.').count() == 3 && part.starts_with(|c: char| c.is_ascii_digit());
    version.split(['/', ' ']).find(is_number).unwrap_or(version)
}

fn verdict(figure: &Figure) -> &'static str {
    match figure.met() {
        _ if figure.failed() > 0 => "FAILED",
        Some(true) => "met",
        Some(false) => "missed",
        None => "",
    }
}

fn beside(figure: &Figure) -> Vec<[String; 6]> {
    let row = |side: &str, series: &Series| {
        let of = |values: &[f64]| if values.is_empty() { "-".to_owned() } else { number(median(values)) };
        [
            figure.title.clone(),
            side.to_owned(),
            of(&series.per_second),
            of(&series.p50),
            of(&series.p99),
            series.failed.to_string(),
        ]
    };
    let envoys = figure.envoys.as_ref().map(|envoys| row(ENVOY, envoys));
    envoys.into_iter().chain([row(OUTRIGGER, &figure.ours)]).collect()
}

pub fn number(value: f64) -> String {
    match value.abs() {
        ..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if at == 0 {
            widths.iter().for_each(|width| text.push_str(&format!("|{}", "-".repeat(width + 2))));
            text.push_str("|\n");
        }
    }
    text
}

pub fn json(run: &Run, figures: &[Figure]) -> Value {
    json!({
        "machine": machine::description(),
        "cores_apart": run.cores.are_apart(),
        "rounds": run.rounds,
        "seconds": run.time.as_secs_f64(),
        "versions": run.sides.iter().map(|side| (side.name.to_owned(), json!(side.version)))
            .collect::<serde_json::Map<_, _>>(),
        "figures": figures.iter().map(Figure::json).collect::<Vec<_>>(),
    })
}
