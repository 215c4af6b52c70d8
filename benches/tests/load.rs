//! The load harness, end to end and for a moment: every case runs, nothing fails, the reports are written.

use std::process::Command;

use serde_json::Value;

#[test]
fn every_case_runs_and_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_benches"))
        .args(["load", "--smoke", "--alone", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(folder.path().join("load.json")).unwrap()).unwrap();
    let figures = report["figures"].as_array().unwrap();
    for (case, _) in benches::load::cases::NAMES {
        let of_case: Vec<&Value> = figures.iter().filter(|figure| figure["case"] == *case).collect();
        assert!(!of_case.is_empty(), "{case}: {said}");
        for figure in of_case {
            let ours = &figure["outrigger"];
            assert_eq!(ours["failed"], 0, "{figure}");
            assert!(ours["median"].as_f64().is_some_and(f64::is_finite), "{figure}");
            // A figure for each unit of work, and so some work, wherever there is load.
            let loaded = ours["per_second"].is_null() || ours["per_second"].as_f64().is_some_and(|rate| rate > 0.0);
            assert!(loaded, "{figure}");
            assert!(said.contains(figure["title"].as_str().unwrap()), "{said}");
        }
    }
    let chart = std::fs::read_to_string(folder.path().join("load.svg")).unwrap();
    assert!(chart.starts_with("<svg") && chart.ends_with("</svg>\n"), "{chart}");
}

#[test]
fn a_wrong_command_line_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_benches")).args(["load", "--only", "h9"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no case h9"));
}
