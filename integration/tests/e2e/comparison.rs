//! What the pages that compare say: the tests that they name are there, and the config that they show is one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use planner::config::Config;
use regex::Regex;

const SUITES: &str = "alone|e2e|haproxy|lab|rpc";
const COMPARISON: &str = include_str!("../../../docs/comparison.md");
const TRAEFIK: &str = include_str!("../../../docs/traefik.md");

/// The tests of a file, those of its macros too.
fn tests(text: &str) -> Result<BTreeSet<&str>> {
    let test = Regex::new(r"#\[test\](?:\s*#\[[^\]]*\])*\s*fn (\w+)\(|(?m:^\s*(\w+) => \w+;$)")?;
    let found = test.captures_iter(text);
    Ok(found
        .filter_map(|found| found.get(1).or(found.get(2)))
        .map(|name| name.as_str())
        .collect())
}

/// Whether `path`, such as `e2e::own` or `e2e::policy::faults::a_server_is_out`, is a module of tests or one of its tests.
fn is_there(path: &str) -> Result<bool> {
    let mut module = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut parts = path.split("::").peekable();
    while let Some(part) = parts.next_if(|part| is_module(&module.join(part))) {
        module.push(part);
    }
    let text = match (parts.next(), parts.next()) {
        (None, _) => return Ok(true),
        (Some(name), None) => (name, std::fs::read_to_string(file(&module))),
        _ => return Ok(false),
    };
    let (name, Ok(text)) = text else {
        return Ok(false);
    };
    Ok(tests(&text)?.contains(name))
}

fn is_module(path: &Path) -> bool {
    path.is_dir() || path.with_extension("rs").is_file()
}

fn file(module: &Path) -> PathBuf {
    let file = module.with_extension("rs");
    if file.is_file() {
        file
    } else {
        module.join("mod.rs")
    }
}

#[test]
fn each_test_that_a_page_names_is_there() -> Result<()> {
    let named = Regex::new(&format!(r"`((?:{SUITES})(?:::\w+)+)`"))?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut pages = vec![root.join("README.md")];
    for page in std::fs::read_dir(root.join("docs"))? {
        pages.push(page?.path());
    }
    let mut count = 0;
    for page in pages
        .iter()
        .filter(|page| page.extension().is_some_and(|kind| kind == "md"))
    {
        for name in named.captures_iter(&std::fs::read_to_string(page)?) {
            ensure!(is_there(&name[1])?, "{} names {}", page.display(), &name[1]);
            count += 1;
        }
    }
    ensure!(count > 60, "only {count} names");
    Ok(())
}

/// The rows of the table below a heading, by cells.
fn rows<'a>(page: &'a str, heading: &str) -> Result<Vec<Vec<&'a str>>> {
    let part = page.split(heading).nth(1).context("its heading")?;
    let part = part.split("\n## ").next().context("its end")?;
    let lines = part
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    Ok(lines
        .skip(1)
        .map(|line| line.split(" | ").collect())
        .collect())
}

#[test]
fn each_feature_that_is_ours_has_its_test() -> Result<()> {
    let features = rows(COMPARISON, "\n## Feature by feature\n")?;
    ensure!(features.len() > 30, "{} features", features.len());
    for row in &features {
        ensure!(row.len() == 6, "{row:?}");
    }
    let ours = features.iter().filter(|row| !row[1].starts_with("no"));
    let ours: Vec<&str> = ours.map(|row| row[0]).collect();
    let shown = rows(COMPARISON, "\n## Which test shows it\n")?;
    assert_eq!(ours, shown.iter().map(|row| row[0]).collect::<Vec<_>>());
    let test = Regex::new(&format!(r"`(?:{SUITES})::(?:\w+::)+\w{{16,}}`"))?;
    for row in &shown {
        ensure!(row.len() == 2 && test.is_match(row[1]), "{row:?}");
    }
    Ok(())
}

#[test]
fn the_configs_of_the_page_about_traefik_are_read_without_a_complaint() -> Result<()> {
    let blocks: Vec<&str> = TRAEFIK
        .split("```toml\n")
        .skip(1)
        .filter_map(|block| block.split("```").next())
        .collect();
    ensure!(!blocks.is_empty(), "no config");
    for block in blocks {
        let config = Config::parse(block, []);
        ensure!(config.is_ok(), "{:?}\n{block}", config.err());
    }
    Ok(())
}
