//! What was measured.

use serde_json::{Value, json};

/// What a figure should come to.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// At most so much of Envoy's.
    Ratio(f64),
    /// At most so much, whatever Envoy needs.
    Absolute(f64),
}

/// One side's values, one for each round, and what was seen beside them.
#[derive(Debug, Default)]
pub struct Series {
    pub values: Vec<f64>,
    pub failed: u64,
    pub per_second: Vec<f64>,
    pub p50: Vec<f64>,
    pub p99: Vec<f64>,
}

/// One line of the table.
pub struct Figure {
    pub case: &'static str,
    /// What was measured, e.g. "HTTP/1 requests".
    pub title: String,
    pub unit: &'static str,
    pub ours: Series,
    pub envoys: Option<Series>,
    pub target: Target,
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

impl Series {
    pub fn one(value: f64) -> Series {
        Series { values: vec![value], ..Series::default() }
    }

    pub fn median(&self) -> f64 {
        median(&self.values)
    }

    fn json(&self) -> Value {
        let of = |values: &[f64]| (!values.is_empty()).then(|| median(values));
        json!({
            "median": self.median(), "rounds": self.values, "failed": self.failed,
            "per_second": of(&self.per_second), "p50_ms": of(&self.p50), "p99_ms": of(&self.p99),
        })
    }
}

impl Figure {
    /// Ours against Envoy's: the median of the rounds' ratios, because the two runs of a round lie beside each other on a
    /// machine whose speed changes.
    pub fn ratio(&self) -> Option<f64> {
        let envoys = self.envoys.as_ref()?;
        let ratios: Vec<f64> =
            self.ours.values.iter().zip(&envoys.values).map(|(ours, envoys)| ours / envoys).collect();
        Some(median(&ratios)).filter(|ratio| ratio.is_finite())
    }

    /// Whether the target is met, if that can be told.
    pub fn met(&self) -> Option<bool> {
        match self.target {
            Target::Ratio(most) => Some(self.ratio()? <= most),
            Target::Absolute(most) => Some(self.ours.median() <= most),
        }
    }

    pub fn target_text(&self) -> String {
        match self.target {
            Target::Ratio(most) => format!("<= {most:.2} x"),
            Target::Absolute(most) => format!("<= {most:.0} {}", self.unit),
        }
    }

    pub fn failed(&self) -> u64 {
        self.ours.failed + self.envoys.as_ref().map_or(0, |envoys| envoys.failed)
    }

    pub fn json(&self) -> Value {
        json!({
            "case": self.case, "title": self.title, "unit": self.unit,
            "outrigger": self.ours.json(), "envoy": self.envoys.as_ref().map(Series::json),
            "ratio": self.ratio(), "target": self.target_text(), "met": self.met(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The machine was twice as slow in the second round.
        let figure = Figure {
            case: "c",
            title: "t".into(),
            unit: "µs",
            ours: Series { values: vec![5.0, 10.0, 5.0], ..Series::default() },
            envoys: Some(Series { values: vec![10.0, 20.0, 20.0], ..Series::default() }),
            target: Target::Ratio(0.5),
        };
        assert_eq!(figure.ratio(), Some(0.5));
        assert_eq!(figure.met(), Some(true));
        let alone = Figure { envoys: None, target: Target::Absolute(4.0), ..figure };
        assert_eq!((alone.ratio(), alone.met()), (None, Some(false)));
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
