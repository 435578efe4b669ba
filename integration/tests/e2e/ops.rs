//! What `ops/` gives to monitoring: rules and a dashboard that speak of metrics there are, and of parts of the document
//! there are. That the rules fire is `alerts`'.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration::process::{find_program, output};
use integration::{Need, test};
use regex::Regex;
use serde_json::Value;

/// A file of the repository.
pub(crate) fn read(path: &str) -> Result<String> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// An alert as its rule stands in the file.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    lines: Vec<(String, String)>,
}

impl Rule {
    fn key(&self, key: &str) -> Result<&str> {
        let line = self.lines.iter().find(|(name, _)| name == key);
        let (_, value) = line.with_context(|| format!("{} has no {key}", self.name))?;
        Ok(value)
    }
}

/// Every rule of a text in which each key has a line of its own.
pub(crate) fn rules(text: &str) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("- alert: ") {
            let (name, lines) = (name.to_owned(), Vec::new());
            rules.push(Rule { name, lines });
        } else if let (Some(rule), Some((key, value))) = (rules.last_mut(), line.split_once(": ")) {
            rule.lines.push((key.to_owned(), value.to_owned()));
        }
    }
    rules
}

async fn promtool(args: &[&str]) -> Result<String> {
    let mut command = Command::new(find_program("promtool").context("promtool")?);
    let ops = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/prometheus");
    output(command.args(args).current_dir(ops)).await
}

#[test]
fn promtool_takes_the_rules_and_each_fires_in_its_time_and_is_over() {
    test(&[Need::Program("promtool")], async |_| {
        promtool(&["check", "rules", "alerts.yml"]).await?;
        promtool(&["test", "rules", "alerts_test.yml"]).await?;
        let tests = read("ops/prometheus/alerts_test.yml")?;
        for rule in rules(&read("ops/prometheus/alerts.yml")?) {
            let fires = format!("- alertname: {}\n", rule.name);
            let is_over = format!("- {{alertname: {}, ", rule.name);
            let (fires, is_over) = (tests.matches(&fires), tests.matches(&is_over));
            ensure!(fires.count() >= 1 && is_over.count() >= 2, "{}", rule.name);
        }
        Ok(())
    });
}

#[test]
fn each_alert_has_its_part_of_the_document_and_says_where_it_is() -> Result<()> {
    let document = read("docs/operations.md")?;
    let headings = document.lines().filter_map(|line| {
        let heading = line.trim_start_matches('#');
        heading.strip_prefix(' ').filter(|_| line.starts_with('#'))
    });
    let marks = Regex::new(r"[^\w -]")?;
    let anchors: BTreeSet<String> = headings
        .map(|heading| {
            let heading = heading.to_lowercase();
            marks.replace_all(&heading, "").replace(' ', "-")
        })
        .collect();
    let rules = rules(&read("ops/prometheus/alerts.yml")?);
    ensure!(rules.len() >= 17, "{rules:?}");
    for rule in &rules {
        let place = "file:///usr/share/doc/serf-haproxy/operations.md#";
        let anchor = rule.key("runbook_url")?.strip_prefix(place);
        let anchor = anchor.with_context(|| format!("where is the part of {}?", rule.name))?;
        ensure!(anchor == rule.name.to_lowercase(), "{}", rule.name);
        ensure!(anchors.contains(anchor), "no heading {}", rule.name);
        rule.key("for")?;
        let labels = rule.key("labels")?;
        ensure!(["{severity: critical}", "{severity: warning}"].contains(&labels));
        let said = rule.key("summary")?.to_owned() + rule.key("description")?;
        let per_backend = rule.key("expr")?.contains("serf_haproxy_backend_");
        ensure!(
            said.contains("$labels.backend") == per_backend,
            "{}",
            rule.name
        );
        let no_instance = rule.name == "SerfHaproxyNotScraped";
        ensure!(
            said.contains("$labels.instance") != no_instance,
            "{}",
            rule.name
        );
    }
    let alerts = document
        .lines()
        .filter_map(|line| line.strip_prefix("## Serf"));
    ensure!(
        alerts.clone().count() == rules.len(),
        "a part is left of an alert that is gone"
    );
    for link in Regex::new(r"\]\(#([^)]+)\)")?.captures_iter(&document) {
        ensure!(anchors.contains(&link[1]), "no heading {}", &link[1]);
    }
    Ok(())
}

/// Every expression of the dashboard.
pub(crate) fn expressions(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("expr").and_then(Value::as_str);
            let inner = fields.values().flat_map(expressions);
            own.into_iter().chain(inner).collect()
        }
        Value::Array(items) => items.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

pub(crate) fn dashboard() -> Result<Value> {
    Ok(serde_json::from_str(&read(
        "ops/grafana/serf-haproxy.json",
    )?)?)
}

#[test]
fn alerts_and_dashboard_speak_of_metrics_there_are() -> Result<()> {
    let reference = read("docs/reference/metrics.md")?;
    let row = Regex::new(r"(?m)^\| `(serf_haproxy_\w+)` \| (\w+) ")?;
    let mut known = BTreeSet::new();
    for row in row.captures_iter(&reference) {
        let (name, kind) = (&row[1], &row[2]);
        if kind == "histogram" {
            known.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        } else {
            known.insert(name.to_owned());
        }
    }
    let dashboard = dashboard()?;
    let queries = dashboard["templating"].to_string();
    let rules = rules(&read("ops/prometheus/alerts.yml")?);
    let of_rules: Result<Vec<&str>> = rules.iter().map(|rule| rule.key("expr")).collect();
    let all = [of_rules?, expressions(&dashboard), vec![&*queries]].concat();
    let metric = Regex::new(r"\bserf_haproxy_\w+")?;
    for expression in all {
        for name in metric.find_iter(expression) {
            ensure!(
                known.contains(name.as_str()),
                "no metric {name:?} of {expression}"
            );
        }
    }
    Ok(())
}

#[test]
fn the_dashboard_asks_what_prometheus_understands_of_a_data_source_that_can_be_chosen() {
    test(&[Need::Program("promtool")], async |lab| {
        let dashboard = dashboard()?;
        ensure!(dashboard["templating"]["list"][0]["type"] == "datasource");
        let panels = dashboard["panels"].as_array().context("no panels")?;
        ensure!(panels[0]["title"] == "Needs a person" && panels[0]["type"] == "row");
        let mut ids = BTreeSet::new();
        for panel in panels {
            ensure!(
                ids.insert(panel["id"].as_u64()),
                "the same id twice: {panel}"
            );
            let end = panel["gridPos"]["x"]
                .as_u64()
                .zip(panel["gridPos"]["w"].as_u64());
            ensure!(end.is_some_and(|(x, w)| x + w <= 24), "{panel}");
            for target in panel["targets"].as_array().into_iter().flatten() {
                ensure!(target["datasource"]["uid"] == "${datasource}", "{target}");
            }
        }
        let lines = expressions(&dashboard).into_iter().map(|expression| {
            let expression = expression.replace("$__rate_interval", "1m");
            serde_json::json!({"record": "dashboard", "expr": expression})
        });
        let rules: Vec<Value> = lines.collect();
        ensure!(rules.len() > 30, "{rules:?}");
        // Whatever is JSON is YAML.
        for (number, rule) in rules.iter().enumerate() {
            let group = serde_json::json!({"groups": [{"name": "dashboard", "rules": [rule]}]});
            std::fs::write(lab.path(&format!("{number}.json")), group.to_string())?;
        }
        let paths: Vec<String> = (0..rules.len())
            .map(|number| lab.path(&format!("{number}.json")).display().to_string())
            .collect();
        let words = ["check", "rules"].into_iter();
        let words: Vec<&str> = words.chain(paths.iter().map(String::as_str)).collect();
        promtool(&words).await.map(drop)
    });
}
