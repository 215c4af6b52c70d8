//! A chart of the ratios, as an SVG of its own making.

use std::fmt::Write;

use super::Run;
use super::figure::{Figure, Target};
use super::report::{heading, number};

const WIDTH: f64 = 980.0;
const LABELS: f64 = 230.0;
/// Where a ratio of 1 lies, and of 0.
const ORIGIN: f64 = LABELS + 10.0;
const UNIT: f64 = 440.0;
/// Longer bars end here.
const LONGEST: f64 = 1.1;
const ROW: f64 = 34.0;
const TOP: f64 = 86.0;
const BAR: f64 = 16.0;

/// One bar for each figure: what Outrigger needs of what Envoy needs, with the target as a mark on it.
pub fn svg(run: &Run, figures: &[Figure]) -> String {
    let bottom = TOP + ROW * figures.len() as f64;
    let height = bottom + 60.0;
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="Helvetica, Arial, sans-serif" font-size="14" fill="#1b1f24">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="20" y="30" font-size="19" font-weight="bold">What Outrigger needs, relative to Envoy (shorter is better)</text>
<text x="20" y="52" font-size="11" fill="#57606a">{}</text>
"##,
        escape(&heading(run))
    );
    for tenth in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let x = ORIGIN + UNIT * tenth;
        let colour = if tenth == 1.0 { "#57606a" } else { "#8c959f" };
        let _ = writeln!(
            out,
            r#"<line x1="{x}" y1="{}" x2="{x}" y2="{bottom}" stroke="{colour}"/>
<text x="{x}" y="{}" text-anchor="middle" font-size="12" fill="{colour}">{}</text>"#,
            TOP - 8.0,
            TOP - 14.0,
            if tenth == 1.0 { "Envoy = 1".to_owned() } else { format!("{tenth}") },
        );
    }
    for (at, figure) in figures.iter().enumerate() {
        row(&mut out, figure, TOP + ROW * at as f64);
    }
    legend(&mut out, bottom + 34.0);
    out.push_str("</svg>\n");
    out
}

fn row(out: &mut String, figure: &Figure, y: f64) {
    let middle = y + ROW / 2.0;
    let text_y = middle + 5.0;
    let _ = writeln!(out, r#"<text x="{LABELS}" y="{text_y}" text-anchor="end">{}</text>"#, escape(&figure.title));
    let ours = number(figure.ours.median());
    let said = match (figure.ratio(), &figure.envoys) {
        (Some(ratio), Some(envoys)) => {
            let length = UNIT * ratio.clamp(0.004, LONGEST);
            let colour = if figure.met() == Some(true) { "#1f6feb" } else { "#d4762c" };
            let _ = writeln!(
                out,
                r#"<rect x="{ORIGIN}" y="{}" width="{length:.1}" height="{BAR}" rx="2" fill="{colour}"/>"#,
                middle - BAR / 2.0
            );
            let target = match figure.target {
                Target::Ratio(most) => most,
                Target::Absolute(most) => most / envoys.median(),
            };
            let x = ORIGIN + UNIT * target.min(LONGEST);
            let _ = writeln!(
                out,
                r##"<line x1="{x:.1}" y1="{}" x2="{x:.1}" y2="{}" stroke="#1b1f24" stroke-width="2.5"/>"##,
                middle - BAR / 2.0 - 4.0,
                middle + BAR / 2.0 + 4.0
            );
            format!("{ratio:.2}   ({ours} of {} {})", number(envoys.median()), figure.unit)
        }
        _ => format!("{ours} {} (target {})", figure.unit, figure.target_text()),
    };
    let x = ORIGIN + UNIT * LONGEST + 10.0;
    let _ = writeln!(out, r#"<text x="{x}" y="{text_y}" font-size="12">{}</text>"#, escape(&said));
}

fn legend(out: &mut String, y: f64) {
    for (x, colour, text) in [(ORIGIN, "#1f6feb", "target met"), (ORIGIN + 120.0, "#d4762c", "target missed")] {
        let _ = writeln!(
            out,
            r#"<rect x="{x}" y="{}" width="22" height="12" rx="2" fill="{colour}"/><text x="{}" y="{y}" font-size="12">{text}</text>"#,
            y - 11.0,
            x + 28.0,
        );
    }
    let x = ORIGIN + 264.0;
    let _ = writeln!(
        out,
        r##"<line x1="{x}" y1="{}" x2="{x}" y2="{}" stroke="#1b1f24" stroke-width="2.5"/><text x="{}" y="{y}" font-size="12">target</text>"##,
        y - 14.0,
        y + 4.0,
        x + 10.0,
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
