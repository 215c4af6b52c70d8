//! `/stats?format=json`: one object on one line; histograms come last, in an object of their own.

use std::io::Write;

use super::number::shortest;
use super::{Buckets, Format, Shown, disjoint};
use crate::stats::histogram::{QUANTILES, Snapshot};

pub struct Json {
    buckets: Buckets,
    stats: usize,
    histograms: usize,
}

impl Json {
    pub fn new(buckets: Buckets) -> Self {
        Self { buckets, stats: 0, histograms: 0 }
    }

    fn head(&self) -> String {
        let percents: Vec<String> = QUANTILES.iter().map(|q| shortest(q * 100.0)).collect();
        let percents = percents.join(",");
        match self.buckets {
            Buckets::Summary => {
                format!(r#"{{"histograms":{{"supported_quantiles":[{percents}],"computed_quantiles":["#)
            }
            Buckets::Detailed => format!(r#"{{"histograms":{{"supported_percentiles":[{percents}],"details":["#),
            Buckets::Cumulative | Buckets::Disjoint => r#"{"histograms":["#.to_owned(),
        }
    }

    fn tail(&self) -> &'static str {
        match self.buckets {
            Buckets::Summary | Buckets::Detailed => "]}}",
            Buckets::Cumulative | Buckets::Disjoint => "]}",
        }
    }
}

impl Format for Json {
    fn begin(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"stats":["#);
    }

    fn stat(&mut self, out: &mut Vec<u8>, name: &str, value: Shown<'_>) {
        let comma = |n: usize| if n > 0 { "," } else { "" };
        // Writing to a vector cannot fail.
        let _ = match value {
            Shown::Number(value) => {
                write!(out, r#"{}{{"name":{},"value":{value}}}"#, comma(self.stats), string(name))
            }
            Shown::Text(text) => {
                write!(out, r#"{}{{"name":{},"value":{}}}"#, comma(self.stats), string(name), string(text))
            }
            Shown::Histogram(block, at) => {
                if self.histograms == 0 {
                    out.extend_from_slice(comma(self.stats).as_bytes());
                    out.extend_from_slice(self.head().as_bytes());
                }
                let (interval, total) = (block.interval(at), block.total(at));
                let bounds = block.shared.config.buckets(name);
                let shown = histogram(&interval, &total, self.buckets, bounds);
                let comma = comma(self.histograms);
                self.histograms += 1;
                write!(out, r#"{comma}{{"name":{},{shown}}}"#, string(name))
            }
        };
        self.stats += 1;
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        if self.histograms > 0 {
            out.extend_from_slice(self.tail().as_bytes());
        }
        out.extend_from_slice(b"]}");
    }
}

fn string(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

fn number(value: f64) -> String {
    if value.is_nan() { "null".to_owned() } else { shortest(value) }
}

fn histogram(interval: &Snapshot, total: &Snapshot, buckets: Buckets, bounds: &[f64]) -> String {
    let counts = |of: &Snapshot| -> Vec<u64> { bounds.iter().map(|bound| of.count_below(*bound)).collect() };
    let list = |interval: Vec<u64>, total: Vec<u64>| {
        let pairs = bounds.iter().zip(interval.iter().zip(&total));
        let pairs =
            pairs.map(|(b, (i, t))| format!(r#"{{"upper_bound":{},"interval":{i},"cumulative":{t}}}"#, shortest(*b)));
        format!(r#""buckets":[{}]"#, pairs.collect::<Vec<_>>().join(","))
    };
    let quantiles = || {
        let pairs = QUANTILES.map(|q| {
            let (interval, total) = (number(interval.quantile(q)), number(total.quantile(q)));
            format!(r#"{{"cumulative":{total},"interval":{interval}}}"#)
        });
        pairs.join(",")
    };
    match buckets {
        Buckets::Summary => format!(r#""values":[{}]"#, quantiles()),
        Buckets::Cumulative => list(counts(interval), counts(total)),
        Buckets::Disjoint => list(disjoint(counts(interval)), disjoint(counts(total))),
        Buckets::Detailed => {
            let (total, interval) = (bins(total), bins(interval));
            format!(r#""totals":[{total}],"intervals":[{interval}],"percentiles":[{}]"#, quantiles())
        }
    }
}

fn bins(of: &Snapshot) -> String {
    let bins = of.bins().map(|bin| {
        let (lower, width) = (shortest(bin.lower), shortest(bin.width));
        format!(r#"{{"lower_bound":{lower},"width":{width},"count":{}}}"#, bin.count)
    });
    bins.collect::<Vec<_>>().join(",")
}
